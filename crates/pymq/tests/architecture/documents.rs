//! What the documents say of the repository: paths, make targets, the ways of messages, dependencies.

use std::path::PathBuf;

use crate::root;

fn page(name: &str) -> String {
    let text = std::fs::read_to_string(root().join(name));
    text.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every page that people read, by its path from the root.
fn pages() -> Vec<String> {
    let mut found: Vec<String> = ["docs", ""]
        .iter()
        .flat_map(|folder| {
            let files = std::fs::read_dir(root().join(folder)).expect("a folder of the repository");
            let names = files.map(|file| file.expect("readable").file_name());
            let names = names.map(|name| PathBuf::from(folder).join(name).display().to_string());
            names.filter(|name| name.ends_with(".md")).collect::<Vec<_>>()
        })
        .collect();
    found.sort();
    found
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

/// A way as the page draws it: steps of a file and of what is called there.
fn way(page: &str, title: &str) -> Vec<(String, String)> {
    let begin = format!("### {title}\n");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no chapter {title:?}"));
    let chapter = rest.split("\n#").next().unwrap_or(rest);
    let steps = chapter.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let step = |line: &str| {
        let mut words = line.split('`').skip(1).step_by(2).map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    steps.map(|line| step(line).unwrap_or_else(|| panic!("a file and a name: {line}"))).collect()
}

/// What a way's steps say that is not so.
fn wrong_steps(steps: &[(String, String)]) -> Vec<String> {
    let there = |(file, name): &&(String, String)| {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        ["fn ", "def ", "struct ", "trait ", "class ", "enum "]
            .iter()
            .any(|kind| text.contains(&format!("{kind}{name}")))
    };
    let wrong = steps.iter().filter(|step| !there(step));
    wrong.map(|(file, name)| format!("{file} has no {name}")).collect()
}

#[test]
fn the_ways_of_an_event_a_call_and_an_item_can_be_walked() {
    let page = page("ARCHITECTURE.md");
    for title in ["An event", "A call", "An item"] {
        let steps = way(&page, title);
        assert!(steps.len() >= 5, "{title} goes through {} files", steps.len());
        assert_eq!(wrong_steps(&steps), [""; 0], "{title}");
    }
}

#[test]
fn a_step_that_is_not_there_is_found() {
    let page =
        "### A way\n\n1. `crates/pymq/src/bus.rs`, `publish_to_nobody`: says.\n\n## Next\n2. x";
    let steps = way(page, "A way");
    assert_eq!(wrong_steps(&steps), ["crates/pymq/src/bus.rs has no publish_to_nobody"]);
    let bus = ("crates/pymq/src/bus.rs".to_owned(), "Bus".to_owned());
    assert_eq!(wrong_steps(&[bus]), [""; 0]);
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
    let page = page("ARCHITECTURE.md");
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
