//! `#[remote]`: a function that keeps its name and its parameters, and can be exposed.
//!
//! The function goes on to exist, and returns a call that is awaited as before; the call's type is
//! what says name and parameters when the function is handed to a bus. So the name stays that of a
//! function, which a `let` may shadow, and not that of a value with methods.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt as _;
use syn::{Attribute, Error, FnArg, Item, ItemFn, Result, Visibility};

use crate::signature::{self, Faults, Remote};

/// As many as the library recognises a function with.
const MOST_PARAMETERS: usize = 12;

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let name = signature::name(attribute, "pymq::remote(\"shop.price\")")?;
    let Item::Fn(function) = syn::parse2(item.clone())? else {
        return Err(Error::new_spanned(
            item,
            "`#[pymq::remote]` goes above a function; for several methods on shared state, \
             write `#[pymq::service]` above a trait",
        ));
    };
    let remote = read(&function)?;
    let name = name.unwrap_or_else(|| function.sig.ident.unraw().to_string());
    let (local, exposed) = (local(&function, &remote), exposed(&function, &remote, &name));
    Ok(quote!(#local #exposed))
}

fn read(function: &ItemFn) -> Result<Remote> {
    let mut faults = Faults::default();
    if let Some(receiver @ FnArg::Receiver(_)) = function.sig.inputs.first() {
        faults.add(
            receiver,
            "a remote function has no `self`; for methods on shared state, \
             write `#[pymq::service]` above a trait",
        );
    }
    let remote = Remote::read(&function.sig, &mut faults);
    if let Some(surplus) = function.sig.inputs.iter().nth(MOST_PARAMETERS) {
        faults.add(surplus, "a remote function has at most 12 parameters: take a struct");
    }
    faults.or(remote)
}

/// The function for its own program: what was written, wrapped into a call.
fn local(function: &ItemFn, remote: &Remote) -> TokenStream {
    let (outer, inner): (Vec<&Attribute>, Vec<_>) = function.attrs.iter().partition(|attribute| {
        ["doc", "cfg", "deprecated"].iter().any(|word| attribute.path().is_ident(word))
    });
    let written = ItemFn { attrs: Vec::new(), vis: Visibility::Inherited, ..function.clone() };
    let (visible, ident) = (&function.vis, &function.sig.ident);
    let names: Vec<_> = remote.parameters.iter().map(|parameter| &parameter.name).collect();
    let kinds = remote.parameters.iter().map(|parameter| &parameter.kind);
    // The values are taken first, since a parameter may have the function's own name.
    let given = Ident::new("given", Span::mixed_site());
    let places = (0..names.len()).map(syn::Index::from);
    let called = quote!(#ident(#(#given.#places),*));
    let running = match function.sig.asyncness {
        Some(_) => called,
        None => quote!(async move { #called }),
    };
    quote! {
        #(#outer)*
        #visible fn #ident(#(#names: #kinds),*) -> ::pymq::rpc::LocalCall<#ident> {
            let #given = (#(#names,)*);
            {
                #(#inner)*
                #written
                ::pymq::rpc::LocalCall::new(#running)
            }
        }
    }
}

/// The type of the function's calls, and the function for a bus.
fn exposed(function: &ItemFn, remote: &Remote, name: &str) -> TokenStream {
    let (visible, ident) = (&function.vis, &function.sig.ident);
    let (output, names) = (remote.answer.whole(), remote.names());
    let arguments = Ident::new("arguments", Span::mixed_site());
    let call = Ident::new("call", Span::mixed_site());
    let taken = remote.taken(&arguments);
    let result = remote.answer.as_result(quote!(#call.await));
    let cfgs: Vec<_> = function.attrs.iter().filter(|one| one.path().is_ident("cfg")).collect();
    quote! {
        #(#cfgs)*
        #[doc(hidden)]
        #[allow(dead_code, non_camel_case_types)]
        #[derive(::core::fmt::Debug)]
        #visible enum #ident {}

        #(#cfgs)*
        impl ::pymq::rpc::RemoteFn for #ident {
            type Output = #output;

            fn function() -> ::pymq::rpc::Function {
                ::pymq::rpc::Function::new(#name, &[#(#names),*], |#arguments| {
                    let #call = #ident(#(#taken),*);
                    ::core::result::Result::Ok(async move { #result })
                })
            }
        }
    }
}
