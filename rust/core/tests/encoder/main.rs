//! The encoder against the libraries whose results it must give: `tokenizers`, Oniguruma and the normalization tables.

#![allow(clippy::unwrap_used)]

mod parity;
mod refusals;
mod shapes;
mod texts;
mod unicode;
