//! What is wrong on the command line is answered with a sentence and a code; nothing reaches a bus.

use std::process::Command;

use tool::{pymq, run, run_with};

mod tool;

const MEMORY: &str = "memory://";

#[test]
fn bad_words_are_a_sentence_and_code_2() {
    for (words, named) in [
        (&[][..], "Usage"),
        (&["nonsense"], "nonsense"),
        (&["sub"], "TOPICS"),
        (&["sub", "t", "--count", "some"], "--count"),
        (&["pub", "t", "{\"half\": "], "value 1 is no JSON"),
        (&["pub", "t", "tea"], "value 1 is no JSON"),
        (&["pub", "t", "1", "--header", "x"], "NAME=TEXT"),
        (&["call", "f", "[1"], "argument 1 is no JSON"),
        (&["call", "f", "a=1", "a=2"], "given twice"),
        (&["call", "f", "a=1", "2"], "stands behind"),
        (&["call", "f", "--timeout", "-1"], "zero or more"),
        (&["call", "f", "--timeout", "NaN"], "zero or more"),
        (&["put", "q", "1", "2", "--id", "x"], "exactly one"),
        (&["put", "q", "1", "--priority", "12"], "12"),
        (&["put", "", "1"], "empty"),
        (&["get", "q", "--follow", "--wait", "1"], "--wait"),
        (&["serve", "f"], "COMMAND"),
        (&["serve", "f", "--concurrency", "0", "--", "cat"], "at least 1"),
        (&["purge", "q"], "--yes"),
        (&["peek", "q", "--of", "shelf"], "shelf"),
        // What a script left empty chooses nothing, least of all everything.
        (&["dead", "q", "purge", "--contains", "", "--yes"], "--contains"),
        (&["dead", "q", "redrive", "--error=", "--yes"], "--error"),
        (&["dead", "q", "--id", ""], "--id"),
        (&["dead", "q", "--reason", "boredom"], "too many deliveries"),
        (&["work", "tasks", "--concurrency", "2"], "python -m pymq work MODULE"),
        (&["completions", "tcsh"], "tcsh"),
        (&["man", "nothing"], "nothing"),
        (&["ls", "--url", "carrier://pigeon"], "unknown scheme"),
        (&["ls", "--url", "redis://h:port"], "redis://"),
        (&["ls", "--namespace", "a:b"], "namespace"),
        (&["ls", "--context", "nowhere"], "no context \"nowhere\""),
        (&["ls", "--context", "x", "--url", "memory://"], "--url"),
    ] {
        let ended = run(MEMORY, words);
        assert_eq!(ended.out, "", "{words:?}");
        let said = ended.failed(2);
        assert!(said.contains(named), "{words:?}: {said}");
    }
}

#[test]
fn a_bad_line_of_the_input_is_named_and_what_was_done_before_it_is_told() {
    let said = run_with(MEMORY, &["put", "q"], "1\n\n{\n2\n").failed(2);
    assert!(said.contains("line 3 is no JSON") && said.contains("1 item before it"), "{said}");
}

#[test]
fn a_name_that_no_bus_can_carry_is_refused() {
    let long = "x".repeat(70_000);
    run(MEMORY, &["pub", &long, "1"]).failed(2);
    run(MEMORY, &["get", &long]).failed(2);
}

#[test]
fn every_command_works_in_memory_or_says_what_lacks() {
    run(MEMORY, &["pub", "t", "1"]).done();
    run(MEMORY, &["put", "q", "1"]).done();
    run(MEMORY, &["get", "q"]).failed(3);
    run(MEMORY, &["queues"]).done();
    run(MEMORY, &["ls"]).done();
    run(MEMORY, &["check"]).done();
    run(MEMORY, &["dead", "q"]).done();
    run(MEMORY, &["call", "f"]).failed(3);
    run(MEMORY, &["sub", "t", "--timeout", "0.1"]).failed(4);
}

#[test]
fn a_context_names_a_bus() {
    let folder = std::env::temp_dir().join(format!("pymq-contexts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let file = folder.join("config.toml");
    let text = "context = 'staging'\n[contexts.staging]\nurl = 'memory://'\nnamespace = 'shop'\n\
                [contexts.production]\nurl = 'rediss://:secret@db.example:6380/0?pass=secret'\n";
    std::fs::write(&file, text).expect("the temporary folder is writable");
    let with = |words: &[&str], url: &str| {
        let mut command = pymq(url, words);
        tool::finish(command.env("PYMQ_CONFIG", &file).spawn().expect("it starts"))
    };
    let listed = with(&["contexts"], "").done();
    assert!(listed.contains("*  staging     memory://"), "{listed}");
    assert!(listed.contains("production") && !listed.contains("secret"), "{listed}");
    with(&["check"], "").done();
    let said = with(&["ls", "--context", "stagign"], "").failed(2);
    assert!(said.contains("there are production, staging"), "{said}");
    std::fs::write(&file, "url = 'redis://:secret@h'\n").expect("the temporary folder is writable");
    let said = with(&["ls"], "").failed(2);
    assert!(said.contains("config.toml is not understood") && !said.contains("secret"), "{said}");
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn completions_are_scripts_that_their_shells_read() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = run(MEMORY, &["completions", shell]).done();
        assert!(script.contains("pymq") && script.contains("queues"), "{shell}");
        let file = std::env::temp_dir().join(format!("pymq-{}.{shell}", std::process::id()));
        std::fs::write(&file, script).expect("the temporary folder is writable");
        // A machine without that shell cannot tell.
        if let Ok(status) = Command::new(shell).arg(check).arg(&file).status() {
            assert!(status.success(), "{shell} does not read its completions");
        }
        std::fs::remove_file(&file).expect("it is ours");
    }
}

#[test]
fn manual_pages_are_there_for_the_whole_and_for_each_command() {
    let page = run(MEMORY, &["man"]).done();
    assert!(page.contains(".TH") && page.contains("Exit codes"), "{page}");
    assert!(run(MEMORY, &["man", "sub"]).done().contains("pymq sub"));
}

#[test]
fn what_only_pythons_program_does_is_found_and_told_as_such() {
    assert!(run(MEMORY, &["--help"]).done().contains("  work "));
    let page = run(MEMORY, &["man", "work"]).done();
    for told in
        [run(MEMORY, &["work", "--help"]).done(), run(MEMORY, &["help", "work"]).done(), page]
    {
        assert!(told.contains("python") && told.contains("@pymq.worker"), "{told}");
    }
}

#[test]
fn the_version_is_the_librarys() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(MEMORY, &["--version"]).done(), format!("pymq {version}\n"));
}
