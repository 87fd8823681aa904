//! Samples made up of random numbers, as like photographs, writing, sounds and sentences as can be
//! without knowing any. What an input is made of is chosen in [`crate::data`].

pub(crate) mod draw;
pub(crate) mod glyphs;
pub(crate) mod leaves;
mod materials;
pub(crate) mod outline;
pub(crate) mod sound;
pub(crate) mod spectrum;
pub(crate) mod tokens;
