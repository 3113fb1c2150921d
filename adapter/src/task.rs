//! What the model is taught: to tell texts apart, or to continue them.

use serde::{Deserialize, Serialize};

/// A job's task, `model.task`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// One of the job's labels for each text, by a head on the model's features.
    #[default]
    SequenceClassification,
    /// The next token, at every place after the prompt.
    CausalLm,
}

impl TaskKind {
    /// The task with the number of labels that the job names; for [`CausalLm`](Self::CausalLm) that number is ignored.
    pub fn with_labels(self, labels: usize) -> Task {
        match self {
            TaskKind::SequenceClassification => Task::SequenceClassification { labels },
            TaskKind::CausalLm => Task::CausalLm,
        }
    }
}

/// A task with what it needs to be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Classification into `labels` classes.
    SequenceClassification {
        /// Rows of the head's last layer.
        labels: usize,
    },
    /// Next-token prediction by the model's own output matrix, which stays frozen.
    CausalLm,
}

impl Task {
    /// Classification into so many classes.
    pub fn classify(labels: usize) -> Self {
        Task::SequenceClassification { labels }
    }

    /// The task without its number of labels.
    pub fn kind(self) -> TaskKind {
        match self {
            Task::SequenceClassification { .. } => TaskKind::SequenceClassification,
            Task::CausalLm => TaskKind::CausalLm,
        }
    }

    /// Number of classes; 0 where there are none.
    pub fn labels(self) -> usize {
        match self {
            Task::SequenceClassification { labels } => labels,
            Task::CausalLm => 0,
        }
    }

    /// PEFT's `task_type`.
    pub(crate) fn peft_name(self) -> &'static str {
        match self {
            Task::SequenceClassification { .. } => "SEQ_CLS",
            Task::CausalLm => "CAUSAL_LM",
        }
    }
}
