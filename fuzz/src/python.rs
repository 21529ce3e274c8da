//! A Python that answers questions about JSON; `oracle.py` says what it answers.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// What to ask.
#[derive(Clone, Copy, Debug)]
pub enum Question {
    /// What a text of JSON means.
    Value,
    /// How two texts of JSON, a line each, bind to `function(a, b, c=None)`.
    Call,
}

/// Python's answer as a line of `pymq::proof`; `None` where it refuses.
pub fn ask(question: Question, data: &[u8]) -> Option<String> {
    static PYTHON: Mutex<Option<Python>> = Mutex::new(None);
    let mut python = PYTHON.lock().expect("nobody panics while asking");
    python.get_or_insert_with(Python::start).ask(question, data)
}

struct Python {
    questions: ChildStdin,
    answers: ChildStdout,
    _process: Child,
}

impl Python {
    fn start() -> Self {
        let name = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut process = Command::new(&name)
            .args(["-I", "-S", concat!(env!("CARGO_MANIFEST_DIR"), "/oracle.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}; set PYTHON"));
        let questions = process.stdin.take().expect("stdin is a pipe");
        let answers = process.stdout.take().expect("stdout is a pipe");
        Self { questions, answers, _process: process }
    }

    fn ask(&mut self, question: Question, data: &[u8]) -> Option<String> {
        let length = u32::try_from(data.len()).expect("inputs are short");
        let kind = match question {
            Question::Value => b'v',
            Question::Call => b'c',
        };
        let head = [&[kind][..], &length.to_le_bytes()].concat();
        self.questions.write_all(&[&head, data].concat()).expect("Python reads");
        let mut length = [0; 4];
        self.answers.read_exact(&mut length).expect("Python answers");
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        self.answers.read_exact(&mut answer).expect("an answer is as long as it says");
        let answer = String::from_utf8(answer).expect("answers are ASCII");
        (!answer.is_empty()).then_some(answer)
    }
}
