//! Recurrent networks: cells, which make one step, and layers that run them over time.

mod bidirectional;
mod cell;
mod conv_lstm;
mod fused;
mod gru;
mod lstm;
mod mgu;
mod options;
mod rnn;
mod simple;
mod steps;

pub use bidirectional::Bidirectional;
pub use cell::{Carry, RnnCell};
pub use conv_lstm::ConvLstmCell;
pub use gru::GruCell;
pub use lstm::{LstmCell, OptimizedLstmCell};
pub use mgu::MguCell;
pub use rnn::Rnn;
pub use simple::SimpleCell;
