//! The arguments of one call, bound to the names of a function's parameters as Python binds them.
//!
//! What does not fit is an error in the words of Python's own `TypeError`, naming the function and
//! the parameter. Values stay spans of JSON until a parameter's type asks for them.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::error::{Error, Result};
use crate::json;
use crate::name;
use crate::wire::Arguments;

/// The arguments of one call, one for each parameter, handed out in the order of the parameters.
///
/// [`Function::new`](super::Function::new) hands it to what it runs; `#[pymq::remote]` and
/// `#[pymq::service]` write the code that takes from it.
#[derive(Debug)]
pub struct BoundArguments<'a> {
    function: &'a str,
    parameters: &'a [&'a str],
    values: Vec<Option<&'a [u8]>>,
    taken: usize,
}

impl<'a> BoundArguments<'a> {
    /// # Errors
    /// `Decode` for too many positional arguments, an unknown keyword, and one given twice.
    pub(crate) fn bind(
        function: &'a str,
        parameters: &'a [&'a str],
        arguments: &'a Arguments,
    ) -> Result<Self> {
        let mut bound =
            Self { function, parameters, values: vec![None; parameters.len()], taken: 0 };
        bound.bind_positional(&arguments.positional)?;
        bound.bind_keywords(&arguments.keywords)?;
        Ok(bound)
    }

    fn bind_positional(&mut self, array: &'a [u8]) -> Result<()> {
        let given = json::elements(array).ok_or_else(|| self.misfit("expected an array"))?;
        let takes = self.parameters.len();
        if given.len() > takes {
            let given = given.len();
            return Err(
                self.misfit(&format!("takes at most {takes} arguments, {given} were given"))
            );
        }
        for (value, given) in self.values.iter_mut().zip(given) {
            *value = Some(given);
        }
        Ok(())
    }

    fn bind_keywords(&mut self, object: &'a [u8]) -> Result<()> {
        let given = json::members(object).ok_or_else(|| self.misfit("expected an object"))?;
        for (keyword, given) in given {
            let Some(place) = self.parameters.iter().position(|name| *name == keyword) else {
                let keyword = name::shortened(&keyword);
                return Err(self.misfit(&format!("unexpected keyword argument '{keyword}'")));
            };
            if self.values[place].replace(given).is_some() {
                return Err(self.misfit(&format!("several values for argument '{keyword}'")));
            }
        }
        Ok(())
    }

    /// The next parameter's value; one that was not given is `None` where the type is an `Option`.
    ///
    /// # Errors
    /// `Decode` for a missing argument, and for one that is no `T`.
    ///
    /// # Panics
    /// When asked for more values than there are parameters.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T> {
        /// serde's own rule for a field that is not there: only an `Option` does without.
        #[derive(Deserialize)]
        struct Absent<T> {
            value: T,
        }

        let (name, value) = (self.parameters[self.taken], self.values[self.taken]);
        self.taken += 1;
        match value {
            Some(value) => codec::decode_plain(name, value)
                .map_err(|error| self.misfit(&format!("argument '{name}': {}", error.message()))),
            None => serde_json::from_str(r"{}")
                .map(|Absent { value }| value)
                .map_err(|_| self.misfit(&format!("missing argument '{name}'"))),
        }
    }

    fn misfit(&self, why: &str) -> Error {
        let parameters = self.parameters.join(", ");
        Error::decode(
            self.function,
            format!("{why}; the function is {}({parameters})", self.function),
        )
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn arguments(positional: &'static str, keywords: &'static str) -> Arguments {
        Arguments {
            positional: Bytes::from(positional),
            keywords: Bytes::from(keywords),
            types: None,
        }
    }

    /// Binds to `product(a, b)` and takes both.
    fn product<A: DeserializeOwned, B: DeserializeOwned>(
        positional: &'static str,
        keywords: &'static str,
    ) -> Result<(A, B), String> {
        let arguments = arguments(positional, keywords);
        BoundArguments::bind("product", &["a", "b"], &arguments)
            .and_then(|mut bound| Ok((bound.take()?, bound.take()?)))
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn positions_and_keywords_mix_as_in_python() {
        assert_eq!(product("[2, 4]", "{}"), Ok((2, 4)));
        assert_eq!(product("[2]", r#"{"b": 4}"#), Ok((2, 4)));
        assert_eq!(product("[]", r#"{"b": 4, "a": 2}"#), Ok((2, 4)));
        assert_eq!(product("[[1, 2], {}]", "{}"), Ok((vec![1, 2], serde_json::Map::new())));
    }

    #[test]
    fn an_optional_parameter_may_be_left_out() {
        assert_eq!(product("[2]", "{}"), Ok((2, None::<i64>)));
        assert_eq!(product("[]", r#"{"b": 4}"#), Ok((None::<i64>, 4)));
        assert_eq!(product("[2, null]", "{}"), Ok((2, None::<i64>)));
        assert!(product::<i64, ()>("[2]", "{}").is_err(), "null must be given");
        assert!(product::<i64, serde_json::Value>("[2]", "{}").is_err(), "null must be given");
    }

    #[test]
    fn a_wrong_call_is_told_the_parameter_and_the_signature() {
        for (positional, keywords, why) in [
            ("[2]", "{}", "missing argument 'b'"),
            ("[]", r#"{"b": 4}"#, "missing argument 'a'"),
            ("[2, 4, 6]", "{}", "takes at most 2 arguments, 3 were given"),
            ("[2, 4]", r#"{"c": 1}"#, "unexpected keyword argument 'c'"),
            ("[2, 4]", r#"{"a": 1}"#, "several values for argument 'a'"),
        ] {
            let told = product::<i64, i64>(positional, keywords).expect_err(why);
            assert_eq!(told, format!("{why}; the function is product(a, b)"));
        }
    }

    #[test]
    fn a_value_of_another_type_is_told_with_its_parameter() {
        let told = product::<i64, i64>("[2]", r#"{"b": "four"}"#).expect_err("no number");
        assert!(told.starts_with("argument 'b': not a i64: invalid type: string"), "{told}");
    }

    #[test]
    fn numbers_that_only_python_writes_bind_too() {
        let (a, b) = product::<f64, f64>("[NaN]", r#"{"b": -Infinity}"#).expect("floats");
        assert!(a.is_nan() && b == f64::NEG_INFINITY);
    }
}
