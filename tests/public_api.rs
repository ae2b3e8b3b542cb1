//! The public API of the crate, compared with tests/data/rust_api.txt.
//!
//! The text has each public item without its documentation and body. A line that disappears or changes breaks hosts in
//! Rust; new lines do not. After an intended change, generate the text again and commit it with the change:
//!
//! ```sh
//! UPDATE_RUST_API=1 cargo test --test public_api
//! ```
//!
//! The C interface (`eunomia::capi`) is not part of it: tests/data/abi lists that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::{Attribute, Fields, ImplItem, Item, TraitItem, Type, UseTree, Visibility};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const RECORDED: &str = "tests/data/rust_api.txt";

/// Attributes that are part of the interface.
const KEPT_ATTRIBUTES: [&str; 4] = ["derive", "must_use", "non_exhaustive", "repr"];

#[test]
fn the_public_api_is_the_recorded_one() {
    let (path, found) = (Path::new(ROOT).join(RECORDED), Api::of_crate().text());
    if std::env::var_os("UPDATE_RUST_API").is_some() {
        fs::write(&path, &found).expect("the list can be written");
    }
    let recorded = fs::read_to_string(&path).expect("the list can be read");
    if found == recorded {
        return;
    }
    let [old, new] = [&recorded, &found].map(|text| text.lines().collect::<Vec<_>>());
    let only = |some: &[&str], others: &[&str], sign: &str| -> String {
        some.iter().filter(|line| !others.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    let change = only(&old, &new, "-") + &only(&new, &old, "+");
    panic!(
        "the public API is not that of {RECORDED}:\n{change}\
         If this is intended: UPDATE_RUST_API=1 cargo test --test public_api"
    );
}

/// The items of each module of the crate, by its path: `` for the root, `vm::poll`.
struct Modules(BTreeMap<String, Vec<Item>>);

/// The definition of an item: its module and its name.
type Place = (String, String);

impl Modules {
    fn of_crate() -> Modules {
        let mut modules = Modules(BTreeMap::new());
        let src = Path::new(ROOT).join("src");
        modules.read(String::new(), &src.join("lib.rs"), &src);
        modules
    }

    /// Reads a file and those of its child modules, which are in `folder`.
    fn read(&mut self, module: String, file: &Path, folder: &Path) {
        let source = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let items = syn::parse_file(&source).expect("the file is Rust").items;
        for child in &items {
            let Item::Mod(child) = child else { continue };
            let name = child.ident.to_string();
            if child.content.is_none() && name != "capi" {
                let below = folder.join(&name);
                let own_file = [below.with_extension("rs"), below.join("mod.rs")];
                let file: &PathBuf =
                    own_file.iter().find(|file| file.exists()).expect("the module has a file");
                self.read(join(&module, &name), file, &below);
            }
        }
        self.0.insert(module, items);
    }

    /// Finds what `segments` refers to in `module`. `None`: something outside of the crate.
    fn resolve(&self, module: &str, segments: &[String]) -> Option<Place> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => return self.resolve("", rest),
            "self" => return self.resolve(module, rest),
            "super" => return self.resolve(module.rsplit_once("::").map_or("", |(parent, _)| parent), rest),
            _ if rest.is_empty() => return self.find(module, first),
            _ => {}
        }
        let child = join(module, first);
        if self.0.contains_key(&child) {
            return self.resolve(&child, rest);
        }
        let (outer, name) = self.find(module, first)?;
        let target = join(&outer, &name);
        if self.0.contains_key(&target) { self.resolve(&target, rest) } else { None }
    }

    /// Finds an item or child module by its name in a module, through imports.
    fn find(&self, module: &str, name: &str) -> Option<Place> {
        let items = self.0.get(module)?;
        let is_here = items.iter().any(|item| name_of(item).is_some_and(|found| found == name));
        if is_here || self.0.contains_key(&join(module, name)) {
            return Some((module.to_owned(), name.to_owned()));
        }
        let uses = items.iter().filter_map(|item| if let Item::Use(item) = item { Some(item) } else { None });
        let (path, _) = uses.flat_map(|item| leaves(&item.tree)).find(|(_, bound)| bound == name)?;
        self.resolve(module, &path)
    }
}

/// The public items, by the path of the module that shows them.
struct Api {
    modules: Modules,
    shown: BTreeMap<String, Vec<Item>>,
    /// For each public item, the one path at which it is shown in full.
    paths: BTreeMap<Place, String>,
}

impl Api {
    fn of_crate() -> Api {
        let mut api = Api { modules: Modules::of_crate(), shown: BTreeMap::new(), paths: BTreeMap::new() };
        api.show_module("", "eunomia");
        api.show_impls();
        api
    }

    /// Shows the public items of a module as those of `path`. Child modules come first: what the module exports again is
    /// then shown by its path there.
    fn show_module(&mut self, module: &str, path: &str) {
        let items: Vec<Item> =
            self.modules.0[module].iter().filter(|item| is_public(item)).map(plain).collect();
        for item in &items {
            let Item::Mod(child) = item else { continue };
            let child = child.ident.to_string();
            if self.modules.0.contains_key(&join(module, &child)) {
                self.show_module(&join(module, &child), &join(path, &child));
            }
        }
        for item in items {
            match &item {
                Item::Mod(_) => {}
                Item::Use(found) => {
                    for (segments, name) in leaves(&found.tree) {
                        self.show_use(module, path, &segments, &name);
                    }
                }
                _ => {
                    let name = name_of(&item).expect("only named items are public");
                    self.paths.insert((module.to_owned(), name.clone()), join(path, &name));
                    self.shown.entry(path.to_owned()).or_default().push(item);
                }
            }
        }
    }

    /// Shows an item that a module exports again: in full, unless it has been shown already.
    fn show_use(&mut self, module: &str, path: &str, segments: &[String], name: &str) {
        let place = self.modules.resolve(module, segments);
        let known = place.as_ref().and_then(|place| self.paths.get(place).cloned());
        let definition = place.as_ref().and_then(|(module, name)| {
            self.modules.0[module].iter().find(|item| name_of(item).as_ref() == Some(name)).map(plain)
        });
        let item = match (known, definition) {
            (None, Some(mut item)) => {
                rename(&mut item, name);
                self.paths.insert(place.expect("it has a definition"), join(path, name));
                item
            }
            (known, _) => {
                let target = known.unwrap_or_else(|| segments.join("::"));
                let binding =
                    if target.ends_with(&format!("::{name}")) { "" } else { &format!(" as {name}") };
                syn::parse_str(&format!("pub use {target}{binding};")).expect("a path")
            }
        };
        self.shown.entry(path.to_owned()).or_default().push(item);
    }

    /// Shows the methods and traits of the types that are shown.
    fn show_impls(&mut self) {
        for (module, items) in &self.modules.0 {
            for item in items {
                let Item::Impl(found) = item else { continue };
                let Type::Path(ty) = &*found.self_ty else { continue };
                let place = self.modules.resolve(module, &segments_of(&ty.path));
                let Some(shown) = place.and_then(|place| self.paths.get(&place)) else { continue };
                let (path, name) = shown.rsplit_once("::").expect("it is in a module");
                let mut item = found.clone();
                item.attrs.clear();
                if let Some((_, trait_path, _)) = &found.trait_ {
                    let own = self.modules.resolve(module, &segments_of(trait_path));
                    if own.is_some_and(|own| !self.paths.contains_key(&own)) {
                        continue; // a private trait
                    }
                    item.items.retain(|item| matches!(item, ImplItem::Type(_)));
                } else {
                    item.items.retain_mut(plain_member);
                    if item.items.is_empty() {
                        continue;
                    }
                }
                *item.self_ty = renamed(&item.self_ty, name);
                self.shown.entry(path.to_owned()).or_default().push(Item::Impl(item));
            }
        }
    }

    fn text(self) -> String {
        let mut text = String::from(
            "// The public API of the crate, without documentation. Written by the test public_api; see there.\n",
        );
        for (path, items) in self.shown {
            let items = items.into_iter().map(|item| {
                prettyplease::unparse(&syn::File { shebang: None, attrs: Vec::new(), items: vec![item] })
            });
            let sorted: BTreeSet<String> = items.collect();
            text += &format!("\n// ---- {path} ----\n\n");
            text.extend(sorted);
        }
        text
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") }
}

fn segments_of(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

/// The paths that a `use` names, and the names that it binds them to.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    let below = |first: &syn::Ident, tree: &UseTree| {
        let first = first.to_string();
        let longer = |(path, name): (Vec<String>, String)| ([vec![first.clone()], path].concat(), name);
        leaves(tree).into_iter().map(longer).collect()
    };
    match tree {
        UseTree::Path(path) => below(&path.ident, &path.tree),
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        UseTree::Rename(rename) => vec![(vec![rename.ident.to_string()], rename.rename.to_string())],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        UseTree::Glob(_) => Vec::new(),
    }
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

fn rename(item: &mut Item, name: &str) {
    let ident = match item {
        Item::Const(item) => &mut item.ident,
        Item::Enum(item) => &mut item.ident,
        Item::Fn(item) => &mut item.sig.ident,
        Item::Static(item) => &mut item.ident,
        Item::Struct(item) => &mut item.ident,
        Item::Trait(item) => &mut item.ident,
        Item::Type(item) => &mut item.ident,
        _ => return,
    };
    *ident = syn::Ident::new(name, ident.span());
}

/// The type with another last segment.
fn renamed(ty: &Type, name: &str) -> Type {
    let mut ty = ty.clone();
    if let Type::Path(path) = &mut ty {
        let last = path.path.segments.last_mut().expect("a path has a segment");
        last.ident = syn::Ident::new(name, last.ident.span());
    }
    ty
}

fn is_public(item: &Item) -> bool {
    let (vis, attrs) = match item {
        Item::Const(item) => (&item.vis, &item.attrs),
        Item::Enum(item) => (&item.vis, &item.attrs),
        Item::Fn(item) => (&item.vis, &item.attrs),
        Item::Mod(item) => (&item.vis, &item.attrs),
        Item::Static(item) => (&item.vis, &item.attrs),
        Item::Struct(item) => (&item.vis, &item.attrs),
        Item::Trait(item) => (&item.vis, &item.attrs),
        Item::Type(item) => (&item.vis, &item.attrs),
        Item::Use(item) => (&item.vis, &item.attrs),
        _ => return false,
    };
    matches!(vis, Visibility::Public(_)) && !attrs.iter().any(is_for_doctests)
}

fn is_for_doctests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "doctest")
}

/// The item without documentation, bodies and private fields.
fn plain(item: &Item) -> Item {
    let mut item = item.clone();
    match &mut item {
        Item::Const(item) => keep_attributes(&mut item.attrs),
        Item::Static(item) => keep_attributes(&mut item.attrs),
        Item::Type(item) => keep_attributes(&mut item.attrs),
        Item::Fn(item) => {
            keep_attributes(&mut item.attrs);
            item.block.stmts.clear();
        }
        Item::Struct(item) => {
            keep_attributes(&mut item.attrs);
            plain_fields(&mut item.fields);
        }
        Item::Enum(item) => {
            keep_attributes(&mut item.attrs);
            for variant in &mut item.variants {
                keep_attributes(&mut variant.attrs);
                variant.fields.iter_mut().for_each(|field| keep_attributes(&mut field.attrs));
            }
        }
        Item::Trait(item) => {
            keep_attributes(&mut item.attrs);
            for member in &mut item.items {
                if let TraitItem::Fn(method) = member {
                    keep_attributes(&mut method.attrs);
                    method.default.iter_mut().for_each(|block| block.stmts.clear());
                }
            }
        }
        _ => {}
    }
    item
}

/// Replaces private fields with a placeholder.
fn plain_fields(fields: &mut Fields) {
    fields.iter_mut().for_each(|field| keep_attributes(&mut field.attrs));
    let is_public = |field: &syn::Field| matches!(field.vis, Visibility::Public(_));
    match fields {
        Fields::Named(fields) => {
            let has_private = !fields.named.iter().all(is_public);
            fields.named = fields.named.iter().filter(|field| is_public(field)).cloned().collect();
            if has_private {
                fields.named.push(syn::parse_quote!(_private: ()));
            }
        }
        Fields::Unnamed(fields) => {
            for field in fields.unnamed.iter_mut().filter(|field| !is_public(field)) {
                field.ty = syn::parse_quote!(());
            }
        }
        Fields::Unit => {}
    }
}

/// Whether a member of an impl is public; removes its documentation and body.
fn plain_member(item: &mut ImplItem) -> bool {
    match item {
        ImplItem::Fn(item) => {
            keep_attributes(&mut item.attrs);
            item.block.stmts.clear();
            matches!(item.vis, Visibility::Public(_))
        }
        ImplItem::Const(item) => {
            keep_attributes(&mut item.attrs);
            matches!(item.vis, Visibility::Public(_))
        }
        _ => false,
    }
}

fn keep_attributes(attributes: &mut Vec<Attribute>) {
    attributes.retain(|attribute| KEPT_ATTRIBUTES.iter().any(|kept| attribute.path().is_ident(kept)));
}
