//! One neural network in a file, run by `rten` on one thread.

use crate::speech::SpeechError;
use rten::{Model, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes of a model: built into the program, or read from disk.
#[derive(Debug, Clone)]
pub enum ModelBytes {
    /// Part of the program.
    Builtin(&'static [u8]),
    /// Read from a file.
    Read(Vec<u8>),
}

impl ModelBytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            ModelBytes::Builtin(b) => b,
            ModelBytes::Read(b) => b,
        }
    }
}

/// A loaded network.
pub struct Graph {
    name: String,
    model: Model,
}

impl Graph {
    /// Loads an ONNX file; `name` appears in errors.
    pub fn load(name: &str, bytes: ModelBytes) -> Result<Self, SpeechError> {
        let loaded = match bytes {
            ModelBytes::Builtin(b) => Model::load_static_slice(b),
            ModelBytes::Read(b) => Model::load(b),
        };
        let model = loaded.map_err(|e| SpeechError::Unusable {
            model: name.to_owned(),
            why: format!("it is no ONNX network that can be run: {e}"),
            mend: "restore the file, or remove the models folder to use the built-in copy".to_owned(),
        })?;
        Ok(Graph { name: name.to_owned(), model })
    }

    /// The id of a named input or output.
    pub fn node(&self, name: &str) -> Result<NodeId, SpeechError> {
        self.model.node_id(name).map_err(|e| SpeechError::Unusable {
            model: self.name.clone(),
            why: format!("the network lacks `{name}`: {e}"),
            mend: "use a file that fits this version of the program".to_owned(),
        })
    }

    /// Runs it; outputs come in the order asked for.
    pub fn run(&self, inputs: Vec<(NodeId, ValueOrView)>, outputs: &[NodeId]) -> Result<Vec<Value>, SpeechError> {
        let options = RunOptions::default().with_thread_pool(Some(own_pool()));
        self.model.run(inputs, outputs, Some(options)).map_err(|e| self.failed(&e))
    }

    /// An error of this model.
    pub fn failed(&self, why: &dyn std::fmt::Display) -> SpeechError {
        SpeechError::Failed { model: self.name.clone(), why: why.to_string() }
    }
}

/// A one-thread pool for the calling worker: the networks are so small that handing parts of them to other cores
/// costs more than it gives, and workers that shared one pool would wait for each other.
fn own_pool() -> Arc<ThreadPool> {
    static POOLS: OnceLock<Vec<Arc<ThreadPool>>> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<Option<usize>> = const { Cell::new(None) });
    let pools = POOLS.get_or_init(|| {
        let n = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 32);
        (0..n).map(|_| Arc::new(ThreadPool::with_num_threads(1))).collect()
    });
    let mine = MINE.get().unwrap_or_else(|| {
        let i = NEXT.fetch_add(1, Ordering::Relaxed) % pools.len();
        MINE.set(Some(i));
        i
    });
    Arc::clone(&pools[mine])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_is_named() {
        let Err(error) = Graph::load("am.int8.onnx", ModelBytes::Read(b"not a model".to_vec())) else {
            panic!("loaded nonsense")
        };
        assert!(error.to_string().contains("am.int8.onnx"), "{error}");
    }
}
