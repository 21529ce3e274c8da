//! What the documents say of the repository: paths, make targets, the ways of messages, dependencies.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::{files, root};

fn page(name: &str) -> String {
    let text = std::fs::read_to_string(root().join(name));
    text.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every page that people read, by its path from the root.
fn pages() -> Vec<String> {
    let mut found = pages_in("", false);
    found.extend(pages_in("docs", true));
    found.sort();
    found
}

/// The pages of a folder, and those of the folders in it where it is asked for.
fn pages_in(folder: &str, deep: bool) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).expect("a folder of the repository") {
        let entry = entry.expect("readable");
        let path = PathBuf::from(folder).join(entry.file_name()).display().to_string();
        if path.ends_with(".md") {
            found.push(path);
        } else if deep && entry.path().is_dir() {
            found.extend(pages_in(&path, deep));
        }
    }
    found
}

#[test]
fn the_pages_in_folders_of_folders_are_read_too() {
    let pages = pages();
    for page in ["README.md", "docs/ways.md", "docs/guides/events.md", "docs/move/index.md"] {
        assert!(pages.iter().any(|found| found == page), "{page} is not read");
    }
}

/// The words that the glossary defines.
fn glossary() -> Vec<String> {
    let page = page("docs/glossary.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    // Below the head of the table.
    rows.skip(1).flat_map(|words| words.split(", ")).map(str::to_owned).collect()
}

/// Those of the words that no text uses, however its lines are broken.
fn unused(words: &[String], texts: &[String]) -> Vec<String> {
    let plain = |text: &String| {
        let words = text.split_whitespace().filter(|word| !word.starts_with("//"));
        words.collect::<Vec<_>>().join(" ").to_lowercase()
    };
    let texts: Vec<_> = texts.iter().map(plain).collect();
    let is_unused = |word: &&String| !texts.iter().any(|text| text.contains(&word.to_lowercase()));
    words.iter().filter(is_unused).cloned().collect()
}

#[test]
fn every_word_of_the_glossary_is_used() {
    let sources = crate::files(&root().join("crates/pymq/src"), "rs").into_iter();
    let read = |path: PathBuf| std::fs::read_to_string(path).expect("readable");
    let mut texts: Vec<_> = sources.map(read).collect();
    texts.extend(
        pages().into_iter().filter(|name| name != "docs/glossary.md").map(|name| page(&name)),
    );
    assert!(glossary().len() > 30, "it is read");
    assert_eq!(unused(&glossary(), &texts), [""; 0]);
    let words = ["held list", "no such word"].map(str::to_owned);
    assert_eq!(unused(&words, &["the held\n    /// List".to_owned()]), ["no such word"]);
}

/// What stands in backquotes or behind a link.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(['`', '(', ')'])
}

/// The paths of a page that lead nowhere.
fn dead_paths(text: &str, folder: &str) -> Vec<String> {
    let names = words(text).filter(|word| looks_like_a_path(word));
    // A name of a test may stand behind its file.
    let paths = names.map(|word| word.split("::").next().unwrap_or(word));
    let from_root = paths.filter(|path| !root().join(path).exists());
    let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
    let links = links.filter(|link| !root().join(folder).join(link).exists());
    from_root.chain(links).map(str::to_owned).collect()
}

/// The names of files without their folders that no file of the crates or the package has.
fn dead_names(text: &str) -> Vec<String> {
    const KINDS: [&str; 3] = ["rs", "py", "lua"];
    let folders = ["crates", "python"].map(|folder| root().join(folder));
    let all = folders.iter().flat_map(|folder| KINDS.map(|kind| files(folder, kind)));
    let there: HashSet<String> = all
        .flatten()
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    let is_a_name = |word: &&str| {
        let kind = word.rsplit_once('.').map(|(_, kind)| kind);
        !word.contains(['/', ' '])
            && !word.starts_with('.')
            && kind.is_some_and(|kind| KINDS.contains(&kind))
    };
    words(text).filter(is_a_name).filter(|word| !there.contains(*word)).map(str::to_owned).collect()
}

#[test]
fn a_file_that_is_named_without_its_folder_is_there() {
    assert_eq!(dead_names(&page("ARCHITECTURE.md")), [""; 0]);
    assert_eq!(dead_names("`bus.rs`, `_bus.py` and `put.lua`, not `omnibus.rs`"), ["omnibus.rs"]);
}

fn looks_like_a_path(word: &str) -> bool {
    const ROOTS: [&str; 9] = [
        "crates/",
        "python/",
        "tests/",
        "docs/",
        "benches/",
        "examples/",
        "scripts/",
        "fuzz/",
        ".ci/",
    ];
    ROOTS.iter().any(|root| word.starts_with(root))
        && !word.contains([' ', '*', '\n', '…', '['])
        && !word.contains("NAME")
}

#[test]
fn every_path_that_a_page_names_exists() {
    for name in pages() {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let text = page(&name);
        // What is left after a run, and never in the repository.
        let dead = dead_paths(&text, folder).into_iter().filter(|path| !path.contains("artifacts"));
        assert_eq!(dead.collect::<Vec<_>>(), [""; 0], "{name}");
    }
}

#[test]
fn a_path_that_leads_nowhere_is_found() {
    let text = "`crates/pymq/src/none.rs`, [this](docs/none.md#there), `tests/none.rs::a_test`";
    let dead = ["crates/pymq/src/none.rs", "docs/none.md#there", "tests/none.rs", "docs/none.md"];
    assert_eq!(dead_paths(text, ""), dead);
    assert_eq!(dead_paths("`crates/pymq/src/` [it](types.md#limits)", "docs"), [""; 0]);
}

#[test]
fn every_make_target_that_a_page_names_is_there_and_every_one_is_told_of() {
    let makefile = page("Makefile");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: "));
    let targets: Vec<&str> = phony.expect("they are listed").split(' ').collect();
    for name in pages() {
        let text = page(&name);
        let named = text.split('`').filter_map(|word| word.strip_prefix("make "));
        for target in named.filter_map(|rest| rest.split([' ', '\n']).next()) {
            assert!(targets.contains(&target), "{name} names `make {target}`");
        }
    }
    for target in &targets {
        let rule = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
        assert!(rule, "the Makefile lists {target}, and has no rule for it");
    }
    let contributing = page("CONTRIBUTING.md");
    for target in targets.iter().filter(|target| !target.contains('-')) {
        let quiet = ["setup", "seed", "wheel", "clean"].contains(target);
        assert!(quiet || contributing.contains(&format!("`make {target}`")), "make {target}");
    }
}

/// A way as the page tells it: each file, and what is called there, those in brackets too.
fn way(page: &str, title: &str) -> Vec<(String, String)> {
    let begin = format!("## {title}\n");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no chapter {title:?}"));
    let chapter = rest.split("\n#").next().unwrap_or(rest);
    let words: Vec<&str> = chapter.split('`').collect();
    // What stands in backquotes is every second one; between a file and its function is a comma.
    let pairs = words.windows(3).skip(1).step_by(2);
    let steps = pairs.filter(|pair| is_a_file(pair[0]) && pair[1].trim() == ",");
    steps.map(|pair| (pair[0].to_owned(), pair[2].to_owned())).collect()
}

fn is_a_file(word: &str) -> bool {
    [".rs", ".py"].iter().any(|extension| word.ends_with(extension))
}

/// The numbered steps of a way that name no file and function.
fn vague_steps(page: &str, title: &str) -> Vec<String> {
    let (_, rest) = page.split_once(&format!("## {title}\n")).expect("its chapter");
    let chapter = rest.split("\n#").next().unwrap_or(rest);
    let steps = chapter.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let vague = steps.filter(|line| {
        let words: Vec<&str> = line.split('`').collect();
        !matches!(&words[..], [_, file, ", ", _, ..] if is_a_file(file))
    });
    vague.map(str::to_owned).collect()
}

/// What a way's steps say that is not so.
fn wrong_steps(steps: &[(String, String)]) -> Vec<String> {
    let wrong = steps.iter().filter(|(file, name)| {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        !defines(&text, name)
    });
    wrong.map(|(file, name)| format!("{file} has no {name}")).collect()
}

/// Whether a source has a function or a type of exactly that name.
fn defines(text: &str, name: &str) -> bool {
    ["fn ", "def ", "struct ", "trait ", "class ", "enum "].iter().any(|kind| {
        let definition = format!("{kind}{name}");
        let mut definitions = text.split(&definition).skip(1);
        definitions.any(|rest| rest.starts_with(['(', '<', ':', ' ', '{', ';', '[']))
    })
}

#[test]
fn the_ways_of_an_event_a_call_and_an_item_can_be_walked() {
    let page = page("docs/ways.md");
    for (title, least) in
        [("An event in memory", 5), ("An event", 10), ("A call", 10), ("An item", 10)]
    {
        let steps = way(&page, title);
        assert!(steps.len() >= least, "{title} goes through {} functions", steps.len());
        assert_eq!(wrong_steps(&steps), [""; 0], "{title}");
        assert_eq!(vague_steps(&page, title), [""; 0], "{title}");
    }
}

#[test]
fn a_step_that_is_not_there_is_found() {
    let page = "## A way\n\n1. `crates/pymq/src/bus.rs`, `publish_to_nobody`: says [in Python\n\
        `python/pymq/_bus.py`,\n`publish_to_all`].\n2. `bus.rs` goes on\n\n## Next\n3. x";
    let steps = way(page, "A way");
    let wrong = [
        "crates/pymq/src/bus.rs has no publish_to_nobody",
        "python/pymq/_bus.py has no publish_to_all",
    ];
    assert_eq!(wrong_steps(&steps), wrong);
    assert_eq!(vague_steps(page, "A way"), ["2. `bus.rs` goes on"]);
    let found = |name: &str| [("crates/pymq/src/bus.rs".to_owned(), name.to_owned())];
    assert_eq!(wrong_steps(&found("Bus")), [""; 0]);
    assert_eq!(wrong_steps(&found("publish_b")), ["crates/pymq/src/bus.rs has no publish_b"]);
}

/// The table of promises of a text: of each operation how it is delivered and what is lost, without links.
fn promises(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().map(|line| line.trim_start_matches("//! "));
    let table = lines.skip_while(|line| !line.contains("| delivery | what is lost")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').map(plain).collect()).collect()
}

/// A cell without the targets of its links.
fn plain(cell: &str) -> String {
    let mut parts = cell.split("](");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once(')').map_or(part, |(_, rest)| rest));
    }
    text.replace('[', "").trim().to_owned()
}

#[test]
fn the_readme_and_the_crate_promise_the_same() {
    let of = |text: &str, operation: &str| {
        let rows = promises(text).into_iter();
        let mut rows = rows.filter(|row| row[1].starts_with(operation));
        let row = rows.next().unwrap_or_else(|| panic!("nothing is promised of {operation}"));
        row[2..].to_vec()
    };
    let (readme, front) = (page("README.md"), page("crates/pymq/src/lib.rs"));
    for (shown, function) in [
        ("events", "`publish`"),
        ("queue, `get()`", "`get`"),
        ("queue, `claim()`", "`claim`"),
        ("call", "`call`"),
    ] {
        assert_eq!(of(&readme, shown), of(&front, function), "{shown}");
    }
}

#[test]
fn a_promise_is_read_without_its_links() {
    let text = "//! | x | delivery | what is lost, and how |\n//! |---|\n//! | [`get`](Q::get), [b](c) | once | [`L`](x) |\n\nz";
    assert_eq!(promises(text), [["", "`get`, b", "once", "`L`", ""]]);
}

/// The dependencies of a manifest that a table does not argue for.
fn unargued(manifest: &str, table: &str) -> Vec<String> {
    let chapters = manifest.split("\n[").filter(|chapter| {
        let head = chapter.lines().next().unwrap_or_default();
        head == "dependencies]" || (head.starts_with("target.") && head.ends_with(".dependencies]"))
    });
    let lines = chapters.flat_map(|chapter| chapter.lines().skip(1));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    let names = names.filter(|name| !name.is_empty() && !name.starts_with('#'));
    names
        .filter(|name| !name.starts_with("pymq") && !table.contains(&format!("`{name}`")))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_dependency_is_argued_for() {
    let page = page("docs/decisions.md");
    let (_, table) = page.split_once("## Why each run-time dependency").expect("its chapter");
    for name in ["pymq", "pymq-macros", "pymq-cli", "pymq-python"] {
        let manifest = crate::documents::page(&format!("crates/{name}/Cargo.toml"));
        assert_eq!(unargued(&manifest, table), [""; 0], "{name}: why?");
    }
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = "[package]\nname = 'x'\n\n[dependencies]\nbytes = '1'\n\nleft-pad.workspace = true\n\
        [target.'cfg(unix)'.dependencies]\nnix = '1'\n[dev-dependencies]\nrcgen = '1'\n";
    assert_eq!(unargued(manifest, "| `bytes` | shared |"), ["left-pad", "nix"]);
}
