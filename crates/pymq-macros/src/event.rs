//! `#[derive(Event)]`: a type and its topic.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error, LitStr, Result};

pub(crate) fn expand(item: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    if !item.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &item.generics,
            "an event has no generic parameters: all values of a topic are of one type; \
             derive it on a concrete type",
        ));
    }
    let (ident, topic) = (&item.ident, topic(&item)?);
    Ok(quote! {
        #[automatically_derived]
        impl ::pymq::Event for #ident {
            const TOPIC: &'static ::core::primitive::str = #topic;
        }
    })
}

/// The topic that the attribute names.
fn topic(item: &DeriveInput) -> Result<LitStr> {
    let mut topic: Option<LitStr> = None;
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("event")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("topic") {
                return Err(meta.error("unknown; write `#[event(topic = \"…\")]`"));
            }
            let value: LitStr = meta.value()?.parse()?;
            if value.value().is_empty() {
                return Err(Error::new(value.span(), "a topic has at least one character"));
            }
            match topic.replace(value) {
                None => Ok(()),
                Some(_) => Err(meta.error("an event has one topic; remove the other")),
            }
        })?;
    }
    topic.ok_or_else(|| {
        let why = format!(
            "on which topic does it travel? write `#[event(topic = \"shop.{}\")]`; \
             for a Python class, its module and name",
            item.ident
        );
        Error::new_spanned(&item.ident, why)
    })
}
