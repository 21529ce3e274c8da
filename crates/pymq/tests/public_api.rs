//! The public interface as it is written, compared with what it was: `public_api.txt` beside this
//! file. Whoever changes it on purpose runs this with `PYMQ_BLESS=1` and commits what it wrote.
//!
//! It reads the sources as the compiler would: public items of public modules, what `lib.rs` hands out
//! of private ones, and the public methods of both. Implementations of traits are not listed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Fields, Ident, ImplItem, Item, Signature, Token, TraitItem, UseTree, Visibility,
};

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
            let of = (room.to_owned(), of.ident.to_string());
            let methods = block.items.iter().flat_map(public_methods);
            self.methods.extend(methods.map(|method| (of.clone(), text(&method))));
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

/// The public methods that an item of an `impl` block makes: one, or those of a list of
/// `blocking/mirror.rs`.
fn public_methods(item: &ImplItem) -> Vec<Signature> {
    match item {
        ImplItem::Fn(method) if is_public(&method.vis) && !is_hidden(&method.attrs) => {
            vec![method.sig.clone()]
        }
        ImplItem::Macro(list) => list.mac.parse_body_with(mirrored).expect("a list of signatures"),
        _ => Vec::new(),
    }
}

/// A type's name, a colon, and signatures with a semicolon after each.
fn mirrored(list: ParseStream<'_>) -> syn::Result<Vec<Signature>> {
    list.parse::<Ident>()?;
    list.parse::<Token![:]>()?;
    Ok(Punctuated::<Signature, Token![;]>::parse_terminated(list)?.into_iter().collect())
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

/// What the blocking side has otherwise than the async side, each with its reason.
const OTHERWISE: [(&str, &str); 19] = [
    ("Bus::builder", "`connect_with` takes the builder of the async side"),
    ("Bus::connect_in", "`connect_with`"),
    ("Bus::over", "a transport is connected on the async side"),
    ("Bus::byte_queue", "bytes are for edges of other languages, which bring their own waits"),
    ("Bus::call_all_bytes", "bytes"),
    ("Bus::call_bytes", "bytes"),
    ("Bus::provide", "bytes"),
    ("Bus::post_bytes", "bytes"),
    ("Bus::publish_bytes", "bytes"),
    ("Bus::subscribe_bytes", "bytes"),
    ("Inspection::traffic", "an endless look; `asynchronous` has it"),
    ("Delivery::into_parts", "bytes"),
    ("Delivery::ack_soon", "`ack` waits here anyhow"),
    ("Delivery::item", "it derefs to the item"),
    ("Bus::expose_fn", "the closure waits, on a thread"),
    ("Queue::work", "the handler waits, on a thread"),
    ("Queue::work_deliveries", "the handler waits, on a thread"),
    ("Stub::call_all_stream", "`call_all_iter`: what is a stream there is an iterator here"),
    ("Worker::ended", "`join`, as of a thread"),
];

/// The methods of a type that users know as `of`: name to what it takes.
fn methods(interface: &str, of: &str) -> BTreeMap<String, String> {
    let methods = interface.lines().filter_map(|line| line.strip_prefix(&format!("{of}: ")));
    methods
        .filter_map(|method| {
            let signature = method.strip_prefix("async ").unwrap_or(method).strip_prefix("fn ")?;
            let (name, takes) = signature.split_once(' ')?;
            // What it gives may be a type of this side; how its lines are broken is no difference.
            let takes = takes.rsplit_once(") ->").map_or(takes, |(takes, _)| takes);
            let takes = takes.trim_end_matches([')', ',', ' ']).replace("mut self", "self");
            Some((name.to_owned(), takes))
        })
        .collect()
}

#[test]
fn the_blocking_side_has_what_the_async_side_has() {
    let interface = interface();
    let types = ["Bus", "Topic", "Queue", "Delivery", "DeadLetters", "Worker", "Inspection"];
    let of_rpc = ["Service", "Stub"].map(|of| (of, format!("pymq::rpc::{of}")));
    let mut otherwise = BTreeSet::new();
    for (of, there) in types.map(|of| (of, format!("pymq::{of}"))).into_iter().chain(of_rpc) {
        let here = methods(&interface, &format!("pymq::blocking::{of}"));
        let there = methods(&interface, &there);
        assert!(!there.is_empty(), "{of} is known under another name");
        for (name, takes) in there {
            if here.get(&name) != Some(&takes) {
                otherwise.insert(format!("{of}::{name}"));
            }
        }
    }
    let known: BTreeSet<_> = OTHERWISE.iter().map(|(what, _)| (*what).to_owned()).collect();
    assert_eq!(otherwise, known, "see blocking/mirror.rs");
}
