//! Made-up sentences: tokens as often as by Zipf's law, between the marks that a known vocabulary
//! has.

use rand_chacha::ChaCha8Rng;

use crate::synthetic::draw::{chance, count, log_uniform, uniform};

/// What an input tells of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenInput {
    /// The tokens' numbers.
    Ids,
    /// One for each token, zero for what fills up.
    Mask,
    /// One for the second of two sentences.
    Types,
    /// The places of the tokens.
    Positions,
}

/// Where the tokens come from.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary {
    /// Rows of the table that they are looked up in, where that is known.
    pub rows: Option<usize>,
    /// Whether sentences are filled up: not where no input says how long they are.
    pub is_masked: bool,
}

/// Tokens of an unknown vocabulary stay below this number.
const FEW: usize = 100;
/// The rank from which the frequency falls as 1 / rank (Mandelbrot's correction of Zipf's law).
const HEAD: f32 = 2.7;
/// The share of tokens that come from anywhere, since not all vocabularies are sorted by frequency.
const ANYWHERE: f32 = 0.2;

/// A vocabulary's marks.
struct Marks {
    start: Option<i64>,
    end: Option<i64>,
    fill: i64,
    /// The first ordinary token, from where on the more frequent come first.
    first: usize,
}

impl Marks {
    /// Those of the vocabularies in wide use, told apart by their sizes.
    fn of(rows: usize) -> Marks {
        let (start, end, fill, first) = match rows {
            // BERT and what came from it: [CLS], [SEP], [PAD]; single characters come before words.
            30_522 => (Some(101), Some(102), 0, 999),
            21_128 | 28_996 | 105_879 | 119_547 => (Some(101), Some(102), 0, 106),
            // RoBERTa, XLM-RoBERTa: <s>, </s>, <pad>.
            50_265 | 250_002 | 250_037 => (Some(0), Some(2), 1, 4),
            // CLIP.
            49_408 => (Some(49_406), Some(49_407), 49_407, 256),
            // T5, mT5: </s>, <pad>.
            32_100 | 32_128 | 250_112 => (None, Some(1), 0, 3),
            // Llama: <s>; bytes come before words.
            32_000 => (Some(1), None, 0, 259),
            _ => (None, None, 0, 0),
        };
        Marks {
            start,
            end,
            fill,
            first,
        }
    }
}

/// One row of `length` values of a part. The same stream of random numbers gives the same sentence
/// for all parts.
pub fn row(rng: &mut ChaCha8Rng, part: TokenInput, source: Vocabulary, length: usize) -> Vec<i64> {
    let used = if source.is_masked {
        log_uniform(rng, length.min(6) as f32, length as f32 + 1.0) as usize
    } else {
        length
    };
    let used = used.clamp(length.min(1), length);
    let second = if chance(rng, 0.2) && used > 7 {
        count(rng, 3, used - 3)
    } else {
        used
    };
    let places = 0..length;
    match part {
        TokenInput::Ids => ids(rng, source.rows, (second, used), length),
        TokenInput::Mask => places.map(|place| i64::from(place < used)).collect(),
        TokenInput::Types => places
            .map(|place| i64::from((second..used).contains(&place)))
            .collect(),
        TokenInput::Positions => {
            let last = source
                .rows
                .map_or(usize::MAX, |rows| rows.saturating_sub(1));
            places.map(|place| place.min(last) as i64).collect()
        }
    }
}

fn ids(
    rng: &mut ChaCha8Rng,
    rows: Option<usize>,
    (second, used): (usize, usize),
    length: usize,
) -> Vec<i64> {
    let marks = Marks::of(rows.unwrap_or(0));
    let rows = rows.unwrap_or(FEW).max(1);
    let mut ids: Vec<i64> = (0..length)
        .map(|place| {
            if place < used {
                token(rng, &marks, rows)
            } else {
                marks.fill
            }
        })
        .collect();
    let ends = [second, used].map(|end| (end.checked_sub(1), marks.end));
    for (place, mark) in ends.into_iter().chain([(Some(0), marks.start)]) {
        if let Some((id, mark)) = place.and_then(|place| ids.get_mut(place)).zip(mark) {
            *id = mark;
        }
    }
    ids
}

/// An ordinary token.
fn token(rng: &mut ChaCha8Rng, marks: &Marks, rows: usize) -> i64 {
    let ordinary = rows.saturating_sub(marks.first).max(1);
    let rank = if chance(rng, ANYWHERE) {
        uniform(rng, 0.0, ordinary as f32)
    } else {
        log_uniform(rng, HEAD, ordinary as f32 + HEAD) - HEAD
    };
    (marks.first + (rank as usize).min(ordinary - 1)).min(rows - 1) as i64
}

/// What a part is, in words.
pub fn text(part: TokenInput, source: Vocabulary) -> String {
    match (part, source.rows) {
        (TokenInput::Ids, Some(rows)) => {
            let marks = Marks::of(rows);
            let known = match (marks.start, marks.end) {
                (None, None) => "",
                _ => ", with the marks that a vocabulary of this size has",
            };
            format!("made-up sentences of {rows} tokens by Zipf's law{known}")
        }
        (TokenInput::Ids, None) => format!("random tokens from 0 to {}", FEW - 1),
        (TokenInput::Mask, _) => "ones as far as a sentence goes".to_owned(),
        (TokenInput::Types, _) => "zeros, and ones for the second of two sentences".to_owned(),
        (TokenInput::Positions, _) => "the places from 0 on".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const BERT: Vocabulary = Vocabulary {
        rows: Some(30_522),
        is_masked: true,
    };

    fn made(part: TokenInput, source: Vocabulary, seed: u64) -> Vec<i64> {
        row(&mut ChaCha8Rng::seed_from_u64(seed), part, source, 32)
    }

    #[test]
    fn the_parts_of_a_sentence_agree() {
        for seed in 0..50 {
            let parts = [TokenInput::Ids, TokenInput::Mask, TokenInput::Types];
            let [ids, mask, types] = parts.map(|part| made(part, BERT, seed));
            let used = mask.iter().filter(|&&m| m == 1).count();
            assert!(mask.iter().take(used).all(|&m| m == 1), "{mask:?}");
            assert_eq!((ids[0], ids[used - 1]), (101, 102), "{ids:?}");
            assert!(ids.iter().skip(used).all(|&id| id == 0), "{ids:?}");
            let marks = ids.iter().filter(|&&id| id == 102).count();
            assert_eq!(marks, if types.contains(&1) { 2 } else { 1 }, "{ids:?}");
        }
    }

    #[test]
    fn the_frequent_come_first_and_all_rows_exist() {
        let mut low = 0;
        for seed in 0..200 {
            let ids = made(TokenInput::Ids, BERT, seed);
            assert!(ids.iter().all(|id| (0..30_522).contains(id)), "{ids:?}");
            low += ids.iter().filter(|id| (999..1999).contains(*id)).count();
        }
        // By the law more than half of the ordinary tokens are of the first thousand of 29,523.
        assert!((1000..3000).contains(&low), "{low}");
    }

    #[test]
    fn without_a_mask_sentences_fill_the_row() {
        let source = Vocabulary {
            rows: Some(10),
            is_masked: false,
        };
        assert_eq!(made(TokenInput::Mask, source, 3), [1; 32]);
        let ids = made(TokenInput::Ids, source, 3);
        assert!(ids.iter().all(|id| (0..10).contains(id)));
        let places = made(TokenInput::Positions, source, 3);
        assert_eq!((places[0], places[31]), (0, 9));
    }
}
