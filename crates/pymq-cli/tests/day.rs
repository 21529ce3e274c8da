//! "A day with the command line": every line of the page is run, and prints what the page says.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tool::server::RedisServer;
use tool::{run, until};

mod tool;

/// What stands for anything.
const ANYTHING: &str = "…";

/// A command and the lines that follow it on the page.
struct Step {
    command: String,
    lines: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in page.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), lines: Vec::new() });
                }
                (None, Some(step)) => step.lines.push(line.to_owned()),
                (None, None) => panic!("the page begins with output: {line}"),
            }
        }
    }
    steps
}

/// Whether a text is what the page says; `…` stands for anything, a line of it for any lines.
fn is_said(said: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once(ANYTHING) else { return said == pattern };
    let Some(said) = said.strip_prefix(first) else { return false };
    (0..=said.len()).filter(|&at| said.is_char_boundary(at)).any(|at| is_said(&said[at..], rest))
}

/// A shell that knows the program, in a folder of its own.
fn shell(command: &str, url: &str, folder: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_pymq")).parent().expect("a file has a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(folder).env("PATH", path).env("PYMQ_URL", url);
    shell.env("PYMQ_CONFIG", "/nowhere/config.toml").stdin(Stdio::null());
    shell
}

struct Background(Vec<Child>);

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // An error says that it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn every_line_of_the_day_prints_what_the_page_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command-line.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let server = RedisServer::start();
    let url = server.url();
    let folder: PathBuf = std::env::temp_dir().join(format!("pymq-day-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let mut background = Background(Vec::new());
    let steps = steps(&page);
    assert!(steps.len() >= 20, "the page has lost its lines");
    for Step { command, lines } in steps {
        if let Some(command) = command.strip_suffix('&') {
            let there = || {
                let patterns = server.raw().run(&["PUBSUB", "NUMPAT"]).number();
                (patterns, run(&url, &["ls", "--json"]).done())
            };
            let before = there();
            let mut shell = shell(&format!("exec {command}"), &url, &folder);
            shell.stdout(Stdio::null()).stderr(Stdio::null());
            background.0.push(shell.spawn().expect("a shell starts"));
            until(command, || there() != before);
            continue;
        }
        let expected = lines.join("\n");
        let say = || {
            let ended = shell(&format!("{command} 2>&1"), &url, &folder).output();
            let ended = ended.expect("a shell starts");
            String::from_utf8(ended.stdout).expect("the program writes UTF-8").trim_end().to_owned()
        };
        let mut said = say();
        if command.starts_with("cat ") {
            // Written by what runs beside.
            until(&command, || {
                said = say();
                is_said(&said, &expected)
            });
        }
        assert!(is_said(&said, &expected), "{command}\nsaid:\n{said}\nthe page:\n{expected}");
    }
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn anything_stands_for_anything_and_nothing_else() {
    assert!(is_said("well: answered in 0.1 ms", "well: answered in … ms"));
    assert!(is_said("a\nb\nc", "a\n…\nc"));
    assert!(!is_said("a b", "a"));
    assert!(!is_said("well: answered in 0.1 s", "well: answered in … ms"));
}
