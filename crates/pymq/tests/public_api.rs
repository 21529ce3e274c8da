//! The public interface as it is written, compared with what it was: `public_api.txt` beside this
//! file. Whoever changes it on purpose runs this with `PYMQ_BLESS=1` and commits what it wrote.
//!
//! It reads the sources as the compiler would: public items of public modules, what `lib.rs` hands out
//! of private ones, and the public methods of both. Implementations of traits are not listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::{Attribute, Fields, ImplItem, Item, TraitItem, UseTree, Visibility};

/// Lines of the interface, sorted.
#[derive(Default)]
struct Interface {
    lines: BTreeSet<String>,
    /// Types whose methods count, by the crate's module that they are in and their name, with the
    /// path under which users know them: there are two of the name `Bus`.
    types: BTreeMap<(String, String), String>,
    /// Methods, to be listed once all types are known.
    methods: Vec<((String, String), String)>,
}

impl Interface {
    /// Reads a module: all that is public if `path` is known to users, else what is in `handed_out`.
    fn read(
        &mut self,
        room: &str,
        items: &[Item],
        path: Option<&str>,
        handed_out: &BTreeMap<String, String>,
    ) {
        for item in items {
            let Some((name, shown)) = declared(item) else { continue };
            let known = path.map(|path| format!("{path}::{name}"));
            let known = known.or_else(|| handed_out.get(&name).cloned());
            if let Some(known) = known {
                self.declare(item, &known, &shown);
                self.types.insert((room.to_owned(), name), known);
            }
        }
        for item in items {
            let Item::Impl(block) = item else { continue };
            if block.trait_.is_some() {
                continue;
            }
            let syn::Type::Path(of) = &*block.self_ty else { continue };
            let Some(of) = of.path.segments.last() else { continue };
            for method in &block.items {
                if let ImplItem::Fn(method) = method
                    && is_public(&method.vis)
                    && !is_hidden(&method.attrs)
                {
                    let of = (room.to_owned(), of.ident.to_string());
                    self.methods.push((of, text(&method.sig)));
                }
            }
        }
    }

    fn declare(&mut self, item: &Item, known: &str, shown: &str) {
        self.lines.insert(format!("{known}: {shown}"));
        match item {
            Item::Struct(of) => {
                let all = matches!(of.fields, Fields::Named(_) | Fields::Unnamed(_));
                for (place, field) in of.fields.iter().enumerate().filter(|_| all) {
                    if is_public(&field.vis) {
                        let name =
                            field.ident.as_ref().map_or(place.to_string(), ToString::to_string);
                        self.lines.insert(format!("{known}.{name}: {}", text(&field.ty)));
                    }
                }
            }
            Item::Enum(of) => {
                for variant in &of.variants {
                    let fields = text(&variant.fields);
                    self.lines.insert(format!("{known}::{}{fields}", variant.ident));
                }
            }
            Item::Trait(of) => {
                for member in &of.items {
                    if let TraitItem::Fn(member) = member {
                        self.lines.insert(format!("{known}: {}", text(&member.sig)));
                    }
                }
            }
            _ => {}
        }
    }

    fn finish(mut self) -> String {
        for (of, method) in &self.methods {
            if let Some(known) = self.types.get(of) {
                self.lines.insert(format!("{known}: {method}"));
            }
        }
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// The name of a public item and its head, without its body.
fn declared(item: &Item) -> Option<(String, String)> {
    let (vis, attrs, name, shown) = match item {
        Item::Fn(of) => (&of.vis, &of.attrs, &of.sig.ident, text(&of.sig)),
        Item::Struct(of) => {
            (&of.vis, &of.attrs, &of.ident, format!("struct{}", open_ended(&of.attrs)))
        }
        Item::Enum(of) => (&of.vis, &of.attrs, &of.ident, format!("enum{}", open_ended(&of.attrs))),
        Item::Trait(of) => {
            (&of.vis, &of.attrs, &of.ident, format!("trait: {}", text(&of.supertraits)))
        }
        Item::Type(of) => (&of.vis, &of.attrs, &of.ident, format!("type = {}", text(&of.ty))),
        Item::Const(of) => (&of.vis, &of.attrs, &of.ident, format!("const: {}", text(&of.ty))),
        _ => return None,
    };
    (is_public(vis) && !is_hidden(attrs)).then(|| (name.to_string(), shown))
}

fn open_ended(attrs: &[Attribute]) -> &'static str {
    let open = attrs.iter().any(|attr| attr.path().is_ident("non_exhaustive"));
    if open { " #[non_exhaustive]" } else { "" }
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

fn is_hidden(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| text(attr).replace(' ', "").contains("doc(hidden)"))
}

/// Tokens with one space between them, so that formatting changes nothing.
fn text(tokens: &impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn file(module: &Path) -> PathBuf {
    let alone = module.with_extension("rs");
    if alone.exists() { alone } else { module.join("mod.rs") }
}

/// Reads a module's file and those below it.
fn walk(
    interface: &mut Interface,
    at: &Path,
    path: Option<&str>,
    handed_out: &BTreeMap<String, String>,
) {
    let place = if at.ends_with("src") { at.join("lib.rs") } else { file(at) };
    let source = std::fs::read_to_string(&place).expect("a module has a file");
    let items = syn::parse_file(&source).expect("it compiles").items;
    let mut further = handed_out.clone();
    for item in &items {
        if let Item::Use(line) = item
            && is_public(&line.vis)
            && let Some(path) = path
        {
            hand_out(&line.tree, path, &mut further);
        }
    }
    let room = at.strip_prefix(sources()).expect("below the sources").iter().next();
    let room = room.map_or(String::new(), |room| room.to_string_lossy().into_owned());
    interface.read(&room, &items, path, &further);
    for item in &items {
        let Item::Mod(module) = item else { continue };
        let only_tests = text_of(&module.attrs).contains("test");
        if module.content.is_some() || only_tests || is_hidden(&module.attrs) {
            continue;
        }
        let open = is_public(&module.vis) && path.is_some();
        let below = open.then(|| format!("{}::{}", path.unwrap_or_default(), module.ident));
        walk(interface, &at.join(module.ident.to_string()), below.as_deref(), &further);
    }
}

fn text_of(attrs: &[Attribute]) -> String {
    attrs.iter().map(text).collect()
}

/// Names that a module hands out from others.
fn hand_out(tree: &UseTree, path: &str, names: &mut BTreeMap<String, String>) {
    match tree {
        UseTree::Path(part) => hand_out(&part.tree, path, names),
        UseTree::Group(group) => group.items.iter().for_each(|item| hand_out(item, path, names)),
        UseTree::Name(name) => {
            names.insert(name.ident.to_string(), format!("{path}::{}", name.ident));
        }
        UseTree::Rename(name) => {
            names.insert(name.ident.to_string(), format!("{path}::{}", name.rename));
        }
        UseTree::Glob(_) => {}
    }
}

fn interface() -> String {
    let mut interface = Interface::default();
    walk(&mut interface, &sources(), Some("pymq"), &BTreeMap::new());
    interface.finish()
}

#[test]
fn the_public_interface_is_as_it_was() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public_api.txt");
    let now = interface();
    if std::env::var_os("PYMQ_BLESS").is_some() {
        std::fs::write(&kept, &now).expect("the folder of tests is writable");
    }
    let was = std::fs::read_to_string(&kept).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (was, now) = (lines(&was), lines(&now));
    let gone: Vec<_> = was.difference(&now).collect();
    let new: Vec<_> = now.difference(&was).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}\nif this is meant, run it again with PYMQ_BLESS=1"
    );
}

#[test]
fn what_users_call_is_in_the_list() {
    let interface = interface();
    for part in ["pymq::Bus: async fn publish", "pymq::Queue: async fn put", "pymq::ErrorKind::"] {
        assert!(interface.contains(part), "{part}\n{interface}");
    }
    assert!(!interface.contains("pub (crate)"), "what is not public is not in it");
}
