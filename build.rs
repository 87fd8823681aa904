//! Compiles proto/onnx.proto: Rust types by prost, the descriptor set for the tests, and a table
//! of the known fields, by which the loader finds what prost would silently drop.

use std::{env, error::Error, fmt::Write, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/onnx.proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.open_file("onnx.proto")?;
    fs::write(out.join("onnx.fds"), compiler.encode_file_descriptor_set())?;
    let pool = compiler.descriptor_pool();
    fs::write(out.join("known.rs"), known_fields(&pool)?)?;
    // `bytes` fields become bytes::Bytes: weights stay slices of the mapped file.
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Rust source of one static `Message` for each message, which refer to each other.
fn known_fields(pool: &protox::prost_reflect::DescriptorPool) -> Result<String, Box<dyn Error>> {
    let ident = |full_name: &str| full_name.replace('.', "_").to_uppercase();
    let mut source = String::new();
    for message in pool.all_messages() {
        let name = message.full_name();
        writeln!(source, "static {}: Message = Message {{", ident(name))?;
        let size = format!("size_of::<super::proto::{}>()", rust_path(name));
        writeln!(
            source,
            "    name: {name:?},\n    size: {size},\n    fields: &["
        )?;
        for field in message.fields() {
            let inner = match field.kind().as_message() {
                Some(inner) => format!("Some(&{})", ident(inner.full_name())),
                None => "None".to_owned(),
            };
            let (number, name) = (field.number(), field.name());
            let held = held(&field.kind());
            writeln!(
                source,
                "        Field {{ number: {number}, name: {name:?}, message: {inner}, held: {held} }},"
            )?;
        }
        writeln!(source, "    ],\n}};")?;
    }
    Ok(source)
}

/// The path of a message's Rust type below that of its package: nested ones lie in modules.
fn rust_path(full_name: &str) -> String {
    let names: Vec<&str> = full_name.split('.').skip(1).collect();
    let module = |name: &str| {
        let mut text = String::new();
        for letter in name.chars() {
            if letter.is_uppercase() && !text.is_empty() {
                text.push('_');
            }
            text.extend(letter.to_lowercase());
        }
        text
    };
    let Some((own, outer)) = names.split_last() else {
        return String::new();
    };
    let outer: String = outer.iter().map(|name| module(name) + "::").collect();
    format!("{outer}{own}")
}

/// What is held of a field that is no message: Rust source of a `Held`.
fn held(kind: &protox::prost_reflect::Kind) -> &'static str {
    use protox::prost_reflect::Kind;
    match kind {
        Kind::String => "Held::Text",
        Kind::Bytes | Kind::Message(_) => "Held::Slice",
        Kind::Double | Kind::Int64 | Kind::Uint64 | Kind::Sint64 => "Held::Numbers(8)",
        Kind::Fixed64 | Kind::Sfixed64 => "Held::Numbers(8)",
        _ => "Held::Numbers(4)",
    }
}
