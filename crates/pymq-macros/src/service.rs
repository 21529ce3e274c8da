//! `#[service]`: a trait, a server that exposes what implements it, and a typed client.
//!
//! Methods are ordinary remote functions under `Service.method`; server and client are two ends of
//! those, and nothing else knows that they belong together.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote};
use syn::ext::IdentExt as _;
use syn::{
    Attribute, Error, FnArg, Ident, Item, ItemTrait, Meta, ReceiverKind, Result, TraitItem,
    TraitItemFn,
};

use crate::signature::{self, Faults, Remote};

/// What the client has beside the trait's methods.
const METHODS_OF_CLIENT: [&str; 4] = ["new", "timeout", "options", "everyone"];

/// One method as both ends need it.
struct Method<'a> {
    written: &'a TraitItemFn,
    /// The attributes that the trait keeps.
    attributes: Vec<&'a Attribute>,
    /// The whole name on the bus.
    name: String,
    remote: Remote,
}

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let name = signature::name(attribute, "pymq::service(\"shop.Calculator\")")?;
    let Item::Trait(service) = syn::parse2(item.clone())? else {
        return Err(Error::new_spanned(
            item,
            "`#[pymq::service]` goes above a trait; for one function, `#[pymq::remote]` above it",
        ));
    };
    let name = name.unwrap_or_else(|| service.ident.unraw().to_string());
    let methods = read(&service, &name)?;
    let declared = declared(&service, &methods);
    let (server, client) = (server(&service, &methods), client(&service, &methods)?);
    Ok(quote!(#declared #server #client))
}

/// The trait as it was written, without the attributes that only this macro reads.
pub(crate) fn without_names(item: TokenStream) -> TokenStream {
    let Ok(mut service) = syn::parse2::<ItemTrait>(item.clone()) else { return item };
    for item in &mut service.items {
        if let TraitItem::Fn(method) = item {
            method.attrs.retain(|attribute| !is_name(attribute));
        }
    }
    service.into_token_stream()
}

fn read<'a>(service: &'a ItemTrait, name: &str) -> Result<Vec<Method<'a>>> {
    let mut faults = Faults::default();
    if !service.generics.params.is_empty() {
        faults.add(
            &service.generics,
            "a service has no generic parameters: its callers name no types",
        );
    }
    if service.items.is_empty() {
        faults.add(
            &service.ident,
            "a service has methods: `async fn product(&self, a: i64) -> i64;`",
        );
    }
    let mut methods = Vec::new();
    for item in &service.items {
        match item {
            TraitItem::Fn(method) => methods.extend(Method::read(method, name, &mut faults)),
            other => faults.add(other, "a service has `async` methods and nothing else"),
        }
    }
    faults.or(methods)
}

impl<'a> Method<'a> {
    fn read(written: &'a TraitItemFn, service: &str, faults: &mut Faults) -> Option<Self> {
        let signature = &written.sig;
        let ident = signature.ident.unraw();
        if signature.asyncness.is_none() {
            let why = format!("a service's methods are awaited: write `async fn {ident}`");
            faults.add(signature.fn_token, &why);
        }
        check_receiver(written, faults);
        if METHODS_OF_CLIENT.iter().any(|taken| ident == taken) {
            let why = format!(
                "the client has a `{ident}` of its own: rename the method, \
                 and keep its remote name with `#[remote(\"{service}.{ident}\")]` above it"
            );
            faults.add(&signature.ident, &why);
        }
        let remote = Remote::read(signature, faults);
        let (names, attributes) =
            written.attrs.iter().partition::<Vec<_>, _>(|attribute| is_name(attribute));
        let name = match names.first().map(|attribute| remote_name(attribute)) {
            None => format!("{service}.{ident}"),
            Some(Ok(name)) => name,
            Some(Err(fault)) => {
                faults.take(fault);
                return None;
            }
        };
        Some(Self { written, attributes, name, remote })
    }

    fn ident(&self) -> &Ident {
        &self.written.sig.ident
    }

    fn cfgs(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().copied().filter(|attribute| attribute.path().is_ident("cfg"))
    }
}

fn check_receiver(method: &TraitItemFn, faults: &mut Faults) {
    const WHY: &str = "calls of a service run side by side: take `&self`, \
                       and keep what changes behind a lock";
    match method.sig.inputs.first() {
        Some(FnArg::Receiver(receiver)) => match &receiver.kind {
            ReceiverKind::Reference(_, None, None) => {}
            _ => faults.add(receiver, WHY),
        },
        Some(FnArg::Typed(first)) => faults.add(first, WHY),
        None => faults.add(&method.sig.ident, WHY),
    }
}

/// Whether an attribute gives a method its remote name: `#[remote("…")]`, `#[pymq::remote("…")]`.
fn is_name(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "remote")
}

fn remote_name(attribute: &Attribute) -> Result<String> {
    let given = match &attribute.meta {
        Meta::List(list) => list.tokens.clone(),
        _ => TokenStream::new(),
    };
    signature::name(given, "remote(\"shop.product\")")?.ok_or_else(|| {
        let why =
            "a method is exposed without it; it gives another name: `#[remote(\"shop.product\")]`";
        Error::new_spanned(attribute, why)
    })
}

/// The trait, its methods' futures `Send`.
fn declared(service: &ItemTrait, methods: &[Method<'_>]) -> TokenStream {
    let ItemTrait { attrs, vis, unsafety, ident, supertraits, .. } = service;
    let supertraits = supertraits.iter();
    let methods = methods.iter().map(|method| {
        let (attributes, name, inputs) =
            (&method.attributes, method.ident(), &method.written.sig.inputs);
        let output = method.remote.answer.whole();
        let body = match &method.written.default {
            Some(body) => quote!({ async move #body }),
            None => quote!(;),
        };
        quote! {
            #(#attributes)*
            fn #name(#inputs)
                -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
            #body
        }
    });
    quote! {
        #(#attrs)*
        #vis #unsafety trait #ident:
            #(#supertraits +)* ::core::marker::Send + ::core::marker::Sync + 'static
        {
            #(#methods)*
        }
    }
}

fn server(service: &ItemTrait, methods: &[Method<'_>]) -> TokenStream {
    let (visible, service) = (&service.vis, &service.ident);
    let server = format_ident!("{service}Server");
    let about = format!("A [`{service}`] to be exposed, all its methods under one handle.");
    let functions = methods.iter().map(|method| function(service, method));
    quote! {
        #[doc = #about]
        #[allow(dead_code)]
        #visible struct #server<Implementation>(::std::sync::Arc<Implementation>);

        #[allow(dead_code)]
        impl<Implementation: #service> #server<Implementation> {
            /// Serves this; `from` serves an `Arc` that others hold too.
            #visible fn new(implementation: Implementation) -> Self {
                Self(::std::sync::Arc::new(implementation))
            }
        }

        impl<Implementation: #service> ::core::convert::From<::std::sync::Arc<Implementation>>
            for #server<Implementation>
        {
            fn from(shared: ::std::sync::Arc<Implementation>) -> Self {
                Self(shared)
            }
        }

        impl<Implementation> ::core::fmt::Debug for #server<Implementation> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(::core::stringify!(#server))
            }
        }

        impl<Implementation: #service> ::pymq::Remote for #server<Implementation> {
            fn functions(self) -> ::std::vec::Vec<::pymq::rpc::Function> {
                let mut functions = ::std::vec::Vec::new();
                #(#functions)*
                functions
            }
        }
    }
}

/// A statement that adds a method to the server's functions.
fn function(service: &Ident, method: &Method<'_>) -> TokenStream {
    let (name, ident, names) = (&method.name, method.ident(), method.remote.names());
    let arguments = Ident::new("arguments", Span::mixed_site());
    let taken = method.remote.taken(&arguments);
    let places = (0..names.len()).map(syn::Index::from);
    let call = quote!(#service::#ident(&*implementation, #(given.#places),*).await);
    let (result, cfgs) = (method.remote.answer.as_result(call), method.cfgs());
    quote! {
        #(#cfgs)*
        functions.push({
            let implementation = ::std::sync::Arc::clone(&self.0);
            ::pymq::rpc::Function::new(#name, &[#(#names),*], move |#arguments| {
                let implementation = ::std::sync::Arc::clone(&implementation);
                let given = (#(#taken,)*);
                ::core::result::Result::Ok(async move { #result })
            })
        });
    }
}

fn client(service: &ItemTrait, methods: &[Method<'_>]) -> Result<TokenStream> {
    let (visible, service) = (&service.vis, &service.ident);
    let client = format_ident!("{service}Client");
    let about =
        format!("Calls a [`{service}`] elsewhere on a bus; one provider executes each call.");
    let everyone = format_ident!("{service}Everyone");
    let about_everyone = format!(
        "Calls every [`{service}`] on a bus; made by `{client}::everyone`. An answer of each stands \
         in the result, those who are missing as errors."
    );
    let to_one = methods.iter().map(|method| client_method(method, Reach::One));
    let to_one = to_one.collect::<Result<Vec<_>>>()?;
    let to_all = methods.iter().map(|method| client_method(method, Reach::Everyone));
    let to_all = to_all.collect::<Result<Vec<_>>>()?;
    Ok(quote! {
        #[doc = #about]
        #[allow(dead_code)]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #visible struct #client {
            bus: ::pymq::Bus,
            options: ::pymq::rpc::CallOptions,
        }

        #[allow(dead_code)]
        impl #client {
            /// A client that waits for answers as long as their provider is alive.
            #visible fn new(bus: &::pymq::Bus) -> Self {
                let (bus, options) = (::core::clone::Clone::clone(bus), ::core::default::Default::default());
                Self { bus, options }
            }

            /// The same client with a limit on how long a whole call may take.
            #[must_use]
            #visible fn timeout(&self, timeout: ::core::time::Duration) -> Self {
                self.options(self.options.timeout(timeout))
            }

            /// The same client with all of how its calls wait.
            #[must_use]
            #visible fn options(&self, options: ::pymq::rpc::CallOptions) -> Self {
                Self { bus: ::core::clone::Clone::clone(&self.bus), options }
            }

            /// The same methods, each calling every provider and not one.
            #[must_use]
            #visible fn everyone(&self) -> #everyone {
                let (bus, options) = (::core::clone::Clone::clone(&self.bus), self.options);
                #everyone { bus, options }
            }

            #(#to_one)*
        }

        #[doc = #about_everyone]
        #[allow(dead_code)]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #visible struct #everyone {
            bus: ::pymq::Bus,
            options: ::pymq::rpc::CallOptions,
        }

        #[allow(dead_code)]
        impl #everyone {
            #(#to_all)*
        }
    })
}

/// Whom a client's method calls.
#[derive(Clone, Copy)]
enum Reach {
    One,
    Everyone,
}

fn client_method(method: &Method<'_>, reach: Reach) -> Result<TokenStream> {
    let (attributes, name, ident) = (&method.attributes, &method.name, method.ident());
    let parameters = &method.remote.parameters;
    let names: Vec<_> = parameters.iter().map(|parameter| &parameter.name).collect();
    let kinds: Vec<_> = parameters.iter().map(|parameter| &parameter.kind).collect();
    let value = method.remote.answer.value()?;
    let (about, errors, call, answer) = match reach {
        Reach::One => (
            format!("Calls `{name}`."),
            "As [`Stub::call`](::pymq::Stub::call).",
            quote!(call),
            quote!(#value),
        ),
        Reach::Everyone => (
            format!("Calls every `{name}`."),
            "As [`Stub::call_all`](::pymq::Stub::call_all).",
            quote!(call_all),
            quote!(::std::vec::Vec<::pymq::StubReply<#value>>),
        ),
    };
    Ok(quote! {
        #(#attributes)*
        #[doc = ""]
        #[doc = #about]
        #[doc = ""]
        #[doc = "# Errors"]
        #[doc = #errors]
        pub async fn #ident(&self, #(#names: #kinds),*) -> ::pymq::Result<#answer> {
            let stub = self.bus.stub::<(#(#kinds,)*), #value>(#name);
            stub.options(self.options).#call((#(#names,)*)).await
        }
    })
}
