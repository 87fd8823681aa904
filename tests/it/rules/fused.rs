//! Attention and norms in one node, and the operators that ONNX Runtime's optimisers make.

use super::*;
use crate::builder::{float, int};
use crate::masked::find_with;
use onnx_mipp::groups::{Heads, Scope};

const MICROSOFT: &str = "com.microsoft";
const HEAD_DIM: Scope = Scope {
    heads: Heads::Inside,
    normalized: false,
};

/// Positions of 8 numbers as the model's input, and a matrix to `outputs` of them.
fn rows(b: &mut Builder, input: &str, inputs: usize, outputs: usize) -> String {
    let weight = b.weight(&[inputs, outputs], inputs);
    b.node("MatMul", &[input, &weight], vec![])
}

fn finish(mut b: Builder, made: &str, inputs: usize, scope: Scope) -> Found {
    let made = rows(&mut b, made, inputs, 5);
    b.output(&made, 3);
    find_with(b.finish(), scope)
}

#[test]
fn a_fused_attention_loses_whole_heads() {
    for masked in [false, true] {
        let mut b = Builder::new(17);
        b.input("x", &[5, 8]);
        let input = rows(&mut b, "x", 8, 7);
        let (weight, bias) = (b.weight(&[7, 36], 7), b.uniform(&[36], -0.5, 0.5));
        let mut inputs = vec![input.as_str(), &weight, &bias];
        let mask = b.uniform(&[1, 3, 5, 5], -1.0, 1.0);
        if masked {
            inputs.extend(["", "", &mask]);
        }
        let made = b.node("Attention", &inputs, vec![int("num_heads", 3)]);
        b.in_domain(MICROSOFT);
        let found = finish(b, &made, 12, Scope::default());
        assert_eq!(found.free(), [7, 3], "{:?}", found.frozen());
        let pruned = found.check();
        let node = only(&pruned, "Attention");
        assert_eq!(attribute(node, "num_heads"), Some(vec![2]));
        assert_eq!(constant_shape(&pruned, node, 1), [4, 24]);
    }
}

#[test]
fn a_fused_attention_with_values_of_another_width_loses_whole_heads() {
    let mut b = Builder::new(17);
    b.input("x", &[5, 8]);
    let (weight, bias) = (b.weight(&[8, 30], 8), b.uniform(&[30], -0.5, 0.5));
    let widths = ints("qkv_hidden_sizes", &[12, 12, 6]);
    let attributes = vec![int("num_heads", 3), widths];
    let made = b.node("Attention", &["x", &weight, &bias], attributes);
    b.in_domain(MICROSOFT);
    let found = finish(b, &made, 6, Scope::default());
    assert_eq!(found.free(), [3]);
    let pruned = found.check();
    let widths = attribute(only(&pruned, "Attention"), "qkv_hidden_sizes");
    assert_eq!(widths, Some(vec![8, 8, 4]));
}

#[test]
fn a_multi_head_attention_loses_whole_heads() {
    let mut b = Builder::new(17);
    b.input("x", &[5, 8]);
    let [query, key] = [0, 1].map(|_| rows(&mut b, "x", 8, 12));
    let value = rows(&mut b, "x", 8, 6);
    let bias = b.uniform(&[30], -0.5, 0.5);
    let inputs = [query.as_str(), &key, &value, &bias];
    let made = b.node("MultiHeadAttention", &inputs, vec![int("num_heads", 3)]);
    b.in_domain(MICROSOFT);
    let found = finish(b, &made, 6, Scope::default());
    assert_eq!(found.free(), [3], "{:?}", found.frozen());
    let pruned = found.check();
    let node = only(&pruned, "MultiHeadAttention");
    assert_eq!(attribute(node, "num_heads"), Some(vec![2]));
    assert_eq!(constant_shape(&pruned, node, 3), [20]);
}

#[test]
fn a_fused_attention_has_no_inside_to_prune() {
    let mut b = Builder::new(17);
    b.input("x", &[5, 8]);
    let (weight, bias) = (b.weight(&[8, 36], 8), b.uniform(&[36], -0.5, 0.5));
    let made = b.node(
        "Attention",
        &["x", &weight, &bias],
        vec![int("num_heads", 3)],
    );
    b.in_domain(MICROSOFT);
    let mut found = finish(b, &made, 12, HEAD_DIM);
    assert!(found.free().is_empty());
    found.groups.groups = Vec::new().into();
}

/// Attention of the standard domain, three axes and two heads of queries for one of keys.
#[test]
fn a_standard_attention_loses_whole_heads() {
    let mut b = Builder::new(23);
    b.ir = 11;
    b.input("x", &[5, 8]);
    let query = rows(&mut b, "x", 8, 24);
    let (key, value) = (rows(&mut b, "x", 8, 12), rows(&mut b, "x", 8, 9));
    let attributes = vec![int("q_num_heads", 6), int("kv_num_heads", 3)];
    let made = b.node("Attention", &[&query, &key, &value], attributes);
    let found = finish(b, &made, 18, Scope::default());
    assert_eq!(found.free(), [3], "{:?}", found.frozen());
    let pruned = found.check();
    let node = only(&pruned, "Attention");
    assert_eq!(attribute(node, "q_num_heads"), Some(vec![4]));
    assert_eq!(attribute(node, "kv_num_heads"), Some(vec![2]));
}

#[test]
fn a_standard_attention_with_heads_apart_loses_either() {
    for (scope, free) in [(Scope::default(), vec![3]), (HEAD_DIM, vec![4, 4])] {
        let mut b = Builder::new(23);
        b.ir = 11;
        b.input("x", &[5, 8]);
        let mut parts = Vec::new();
        for _ in 0..3 {
            let made = rows(&mut b, "x", 8, 12);
            let shape = b.ints(&[0, 0, 3, 4]);
            let made = b.node("Reshape", &[&made, &shape], vec![]);
            parts.push(b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]));
        }
        let mask = b.uniform(&[3, 5, 5], -1.0, 1.0);
        let inputs = [parts[0].as_str(), &parts[1], &parts[2], &mask];
        let made = b.node("Attention", &inputs, vec![]);
        let made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
        let shape = b.ints(&[0, 0, 12]);
        let made = b.node("Reshape", &[&made, &shape], vec![]);
        let found = finish(b, &made, 12, scope);
        assert_eq!(found.free(), free, "{:?}", found.frozen());
        found.check();
    }
}

#[test]
fn a_fused_product_is_a_product() {
    // With a constant, and as the scores of an attention.
    let mut b = Builder::new(17);
    b.input("x", &[5, 8]);
    let mut parts = Vec::new();
    for _ in 0..3 {
        let weight = b.weight(&[12, 8], 8);
        let attributes = vec![int("transB", 1), float("alpha", 0.7)];
        let made = b.node("FusedMatMul", &["x", &weight], attributes);
        b.in_domain(MICROSOFT);
        let shape = b.ints(&[0, 0, 3, 4]);
        let made = b.node("Reshape", &[&made, &shape], vec![]);
        parts.push(b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]));
    }
    let attributes = vec![int("transB", 1), float("alpha", 0.5)];
    let scores = b.node("FusedMatMul", &[&parts[0], &parts[1]], attributes);
    b.in_domain(MICROSOFT);
    let scores = b.node("Softmax", &[&scores], vec![int("axis", -1)]);
    let made = b.node("MatMul", &[&scores, &parts[2]], vec![]);
    let made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
    let shape = b.ints(&[0, 0, 12]);
    let made = b.node("Reshape", &[&made, &shape], vec![]);
    let found = finish(b, &made, 12, Scope::default());
    assert_eq!(found.free(), [3], "{:?}", found.frozen());
    found.check();
}

#[test]
fn activations_with_a_bias_cut_it() {
    let mut b = Builder::new(17);
    b.input("x", &[5, 8]);
    let made = rows(&mut b, "x", 8, 6);
    let bias = b.uniform(&[6], -0.5, 0.5);
    let made = b.node("BiasGelu", &[&made, &bias], vec![]);
    b.in_domain(MICROSOFT);
    let made = rows(&mut b, &made, 6, 7);
    let bias = b.uniform(&[7], -0.5, 0.5);
    let made = b.node("FastGelu", &[&made, &bias], vec![]);
    b.in_domain(MICROSOFT);
    let made = b.node("QuickGelu", &[&made], vec![]);
    b.in_domain(MICROSOFT);
    let found = finish(b, &made, 7, Scope::default());
    assert_eq!(found.free(), [6, 7]);
    found.check();
}

/// One head of keys and values, with heads beside what is inside them or on an axis of their own.
#[test]
fn a_standard_attention_of_one_key_head_loses_heads_of_queries() {
    for apart in [false, true] {
        let mut b = Builder::new(23);
        b.ir = 11;
        b.input("x", &[5, 8]);
        let mut parts = Vec::new();
        for heads in [3, 1, 1] {
            let mut made = rows(&mut b, "x", 8, 4 * heads);
            if apart {
                let shape = b.ints(&[0, 0, heads as i64, 4]);
                made = b.node("Reshape", &[&made, &shape], vec![]);
                made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
            }
            parts.push(made);
        }
        let numbers = vec![int("q_num_heads", 3), int("kv_num_heads", 1)];
        let numbers = if apart { vec![] } else { numbers };
        let inputs = [parts[0].as_str(), &parts[1], &parts[2]];
        let mut made = b.node("Attention", &inputs, numbers);
        if apart {
            made = b.node("Transpose", &[&made], vec![ints("perm", &[0, 2, 1, 3])]);
            let shape = b.ints(&[0, 0, 12]);
            made = b.node("Reshape", &[&made, &shape], vec![]);
        }
        let found = finish(b, &made, 12, Scope::default());
        assert_eq!(found.free(), [3], "{apart}: {:?}", found.frozen());
        let pruned = found.check();
        if !apart {
            let node = only(&pruned, "Attention");
            assert_eq!(attribute(node, "q_num_heads"), Some(vec![2]));
            assert_eq!(attribute(node, "kv_num_heads"), Some(vec![1]));
        }
    }
}

/// Heads of 8, whose pairs a RotaryEmbedding turns.
#[test]
fn an_attention_in_groups_behind_a_rotary_embedding_loses_whole_heads() {
    for keys in [2, 1] {
        let mut b = Builder::new(17);
        b.input("x", &[5, 8]);
        let mut parts = Vec::new();
        let (cosines, sines) = (
            b.uniform(&[16, 4], -1.0, 1.0),
            b.uniform(&[16, 4], -1.0, 1.0),
        );
        let start = b.ints(&[0]);
        for heads in [4, keys, keys] {
            let mut made = rows(&mut b, "x", 8, 8 * heads);
            if parts.len() < 2 {
                let inputs = [made.as_str(), &start, &cosines, &sines];
                made = b.node("RotaryEmbedding", &inputs, vec![]);
                b.in_domain(MICROSOFT);
            }
            parts.push(made);
        }
        let length = onnx_mipp::onnx::Tensor {
            dtype: onnx_mipp::onnx::DataType::Int32,
            shape: vec![],
            bytes: vec![5, 0, 0, 0].into(),
        };
        let total = b.store(&length);
        // As many positions as there are, in each sample of the batch.
        let last = b.store(&onnx_mipp::onnx::Tensor {
            bytes: vec![4, 0, 0, 0].into(),
            shape: vec![1],
            ..length
        });
        let (zero, size) = (b.ints(&[0]), b.node("Shape", &["x"], vec![]));
        let size = b.node("Gather", &[&size, &zero], vec![]);
        let ends = b.node("Expand", &[&last, &size], vec![]);
        let inputs = [
            parts[0].as_str(),
            &parts[1],
            &parts[2],
            "",
            "",
            &ends,
            &total,
        ];
        let numbers = vec![int("num_heads", 4), int("kv_num_heads", keys as i64)];
        let made = b
            .nodes("GroupQueryAttention", &inputs, 3, numbers)
            .remove(0);
        b.in_domain(MICROSOFT);
        let found = finish(b, &made, 32, Scope::default());
        let free = if keys == 1 { 4 } else { 2 };
        assert_eq!(found.free(), [free], "{:?}", found.frozen());
        let pruned = found.check();
        let node = only(&pruned, "GroupQueryAttention");
        assert_eq!(attribute(node, "num_heads"), Some(vec![2]));
        assert_eq!(attribute(node, "kv_num_heads"), Some(vec![1]));
    }
}
