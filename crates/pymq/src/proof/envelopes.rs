//! Envelopes: whatever is accepted survives being written again, and names no place but a reply's.

use bytes::Bytes;

use crate::name::{Form, Namespace};
use crate::wire::{Request, Response, ToProvider};

/// Reads `data` as everything that may arrive in an envelope.
///
/// # Panics
/// Where what was read, written and read again is another thing.
pub fn check(data: &[u8]) {
    let text = Bytes::copy_from_slice(data);
    match ToProvider::decode(&text) {
        Ok(ToProvider::Request(request)) => check_request(request),
        Ok(ToProvider::Control(control)) => {
            let encoded = control.encode();
            let again = ToProvider::decode(&encoded).expect("our own control message");
            assert_eq!(again, ToProvider::Control(control));
        }
        Err(error) => assert!(error.message().len() < 1000, "{error}"),
    }
    if let Ok(response) = Response::decode(&text) {
        check_response(&response);
    }
}

fn check_request(request: Request<'_>) {
    let place = Namespace::default().reply_list(&request.reply_list);
    if let Ok(address) = place {
        assert_eq!(address.form(), Form::List);
        assert_eq!(address.name().len(), "__eventbus:global:__rpc_".len() + 36);
    }
    let encoded = request.encode().expect("metadata that was read can be written");
    let again = ToProvider::decode(&encoded).expect("our own request");
    assert_eq!(again, ToProvider::Request(request));
}

fn check_response(response: &Response<'_>) {
    let encoded = response.encode();
    let again = Response::decode(&encoded).expect("our own response");
    assert_eq!(&again, response);
    let error = response.outcome.remote_error(None);
    assert!(crate::json::elements(&error.arguments).is_some(), "an error's arguments are an array");
}
