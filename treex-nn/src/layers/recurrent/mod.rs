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
pub use conv_lstm::ConvLSTMCell;
pub use gru::GRUCell;
pub use lstm::{LSTMCell, OptimizedLSTMCell};
pub use mgu::MGUCell;
pub use rnn::RNN;
pub use simple::SimpleCell;
