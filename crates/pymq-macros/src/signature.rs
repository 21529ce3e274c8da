//! What a function that is called from elsewhere may look like, and what the macros read from it.
//!
//! All faults of a signature are told at once, each with its fix.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    Error, FnArg, GenericArgument, Ident, LitStr, Pat, PatType, PathArguments, Result, ReturnType,
    Safety, Signature, Type, TypeImplTrait, TypeReference,
};

/// A function's parameters and what it answers with.
pub(crate) struct Remote {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) answer: Answer,
}

pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) kind: Type,
}

/// What a function returns, and whether that is a `Result`.
pub(crate) enum Answer {
    Fallible(Type),
    Plain(Type),
}

/// Faults found so far.
#[derive(Default)]
pub(crate) struct Faults(Option<Error>);

impl Faults {
    pub(crate) fn add(&mut self, place: impl ToTokens, why: &str) {
        self.take(Error::new_spanned(place, why));
    }

    pub(crate) fn take(&mut self, fault: Error) {
        match &mut self.0 {
            Some(faults) => faults.combine(fault),
            None => self.0 = Some(fault),
        }
    }

    pub(crate) fn or<T>(self, value: T) -> Result<T> {
        self.0.map_or(Ok(value), Err)
    }
}

/// The name in an attribute's brackets, where there is one.
pub(crate) fn name(attribute: TokenStream, example: &str) -> Result<Option<String>> {
    if attribute.is_empty() {
        return Ok(None);
    }
    let span = attribute.span();
    match syn::parse2::<LitStr>(attribute) {
        Ok(name) if !name.value().is_empty() => Ok(Some(name.value())),
        _ => Err(Error::new(span, format!("write the name as a string: `#[{example}]`"))),
    }
}

impl Remote {
    /// Reads a signature, whatever its receiver.
    pub(crate) fn read(signature: &Signature, faults: &mut Faults) -> Self {
        check_qualifiers(signature, faults);
        let typed = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(parameter) => Some(parameter),
            FnArg::Receiver(_) => None,
        });
        let parameters = typed.filter_map(|parameter| Parameter::read(parameter, faults)).collect();
        let answer = Answer::read(&signature.output);
        check_owned(answer.whole(), "a result travels and is owned", faults);
        Self { parameters, answer }
    }

    /// The names that keyword arguments bind to.
    pub(crate) fn names(&self) -> Vec<String> {
        self.parameters.iter().map(|parameter| parameter.name.unraw().to_string()).collect()
    }

    /// One expression for each parameter that takes its value out of the bound arguments.
    pub(crate) fn taken<'a>(&'a self, arguments: &'a Ident) -> impl Iterator<Item = TokenStream> {
        self.parameters.iter().map(move |parameter| {
            // There an unfit type is reported.
            let place = Span::mixed_site().located_at(parameter.kind.span());
            quote_spanned!(place=> #arguments.take()?)
        })
    }
}

fn check_qualifiers(signature: &Signature, faults: &mut Faults) {
    let Signature { constness, safety, abi, generics, variadic, .. } = signature;
    if !generics.params.is_empty() {
        faults.add(
            generics,
            "a remote function has no generic parameters: its callers name no types; \
             write one function for each type",
        );
    }
    let unsafety = match safety {
        Safety::Default => None,
        Safety::Safe(token) => Some(token.to_token_stream()),
        Safety::Unsafe(token) => Some(token.to_token_stream()),
    };
    let qualifiers = quote!(#constness #unsafety #abi #variadic);
    if !qualifiers.is_empty() {
        faults.add(qualifiers, "a remote function is an `fn` or `async fn` and nothing else");
    }
}

impl Parameter {
    fn read(parameter: &PatType, faults: &mut Faults) -> Option<Self> {
        check_owned(&parameter.ty, "an argument comes from another program and is owned", faults);
        match &*parameter.pat {
            Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
                Some(Self { name: pattern.ident.clone(), kind: (*parameter.ty).clone() })
            }
            pattern => {
                faults.add(
                    pattern,
                    "keyword arguments bind to a parameter's name: write `name: Type`, \
                     and take the value apart in the body",
                );
                None
            }
        }
    }
}

impl Answer {
    fn read(output: &ReturnType) -> Self {
        let whole = match output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, whole) => (**whole).clone(),
        };
        match result_arguments(&whole) {
            Some(_) => Self::Fallible(whole),
            None => Self::Plain(whole),
        }
    }

    /// The type as it was written.
    pub(crate) fn whole(&self) -> &Type {
        let (Self::Fallible(whole) | Self::Plain(whole)) = self;
        whole
    }

    /// The type of a success.
    pub(crate) fn value(&self) -> Result<Type> {
        match self {
            Self::Plain(whole) => Ok(whole.clone()),
            Self::Fallible(whole) => first_type(whole).ok_or_else(|| {
                let why = "the client needs the type of a success: write `Result<T, E>` out";
                Error::new_spanned(whole, why)
            }),
        }
    }

    /// An expression of this type as a `Result`.
    pub(crate) fn as_result(&self, expression: TokenStream) -> TokenStream {
        match self {
            Self::Fallible(_) => expression,
            Self::Plain(_) => quote! {
                ::core::result::Result::<_, ::core::convert::Infallible>::Ok(#expression)
            },
        }
    }
}

/// What stands in the brackets of a type named `Result`.
fn result_arguments(whole: &Type) -> Option<&PathArguments> {
    match whole {
        Type::Group(group) => result_arguments(&group.elem),
        Type::Paren(paren) => result_arguments(&paren.elem),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            (last.ident == "Result").then_some(&last.arguments)
        }
        _ => None,
    }
}

fn first_type(result: &Type) -> Option<Type> {
    let PathArguments::AngleBracketed(arguments) = result_arguments(result)? else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(first) => Some(first.clone()),
        _ => None,
    }
}

/// Finds what borrows, and what has no one type, anywhere in a type.
fn check_owned(whole: &Type, why: &'static str, faults: &mut Faults) {
    Borrowed { why, faults }.visit_type(whole);
}

struct Borrowed<'a> {
    why: &'static str,
    faults: &'a mut Faults,
}

impl<'ast> Visit<'ast> for Borrowed<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let owned = match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
            Type::Slice(slice) => format!("`Vec<{}>`", slice.elem.to_token_stream()),
            other => format!("`{}`", other.to_token_stream()),
        };
        self.faults.add(reference, &format!("{}: write {owned}", self.why));
    }

    fn visit_type_impl_trait(&mut self, anything: &'ast TypeImplTrait) {
        self.faults.add(anything, "callers name no types: write a concrete type");
        visit::visit_type_impl_trait(self, anything);
    }
}
