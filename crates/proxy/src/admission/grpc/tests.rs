use heddle_proto::external_authorization::{
    BoolValue, HeaderValue, HttpStatus, QueryParameter, RpcStatus,
};

use super::*;

fn option(name: &str, value: &str, append: Option<bool>) -> HeaderValueOption {
    let header = HeaderValue { key: name.into(), value: value.into(), raw_value: Vec::new() };
    HeaderValueOption {
        header: Some(header),
        append: append.map(|value| BoolValue { value }),
        append_action: 0,
    }
}

#[test]
fn leave_and_refusal_are_understood_as_envoy_does() {
    let ok = OkHttpResponse {
        headers: vec![
            option("X-User", "a", None),
            option("x-more", "b", Some(true)),
            option("content-length", "0", None),
            option(":path", "/other", None),
        ],
        headers_to_remove: vec!["Cookie".to_owned(), "host".to_owned()],
        response_headers_to_add: vec![
            option("x-told", "c", None),
            option("x-set", "d", Some(false)),
        ],
        query_parameters_to_set: vec![QueryParameter { key: "b".into(), value: "3".into() }],
        query_parameters_to_remove: vec!["a".to_owned()],
    };
    let leave = CheckResponse { status: None, http_response: Some(HttpResponse::Ok(ok)) };
    let changes = understood(leave, Some("a=1&b=2&c=3")).unwrap();
    let text = |text: &str| text.as_bytes().to_vec();
    assert_eq!(
        changes.request,
        [
            Change::Set("x-user".to_owned(), text("a")),
            Change::Add("x-more".to_owned(), text("b")),
            Change::Remove("cookie".to_owned()),
        ]
    );
    assert_eq!(
        changes.response,
        [Change::Add("x-told".to_owned(), text("c")), Change::Set("x-set".to_owned(), text("d")),]
    );
    assert_eq!(changes.query.as_deref(), Some("c=3&b=3"));

    let refused = |http_response| {
        let status = Some(RpcStatus { code: 7, message: String::new() });
        *understood(CheckResponse { status, http_response }, None).unwrap_err()
    };
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: 401 }),
        headers: vec![option("www-authenticate", "Basic", None)],
        body: "who?".to_owned(),
    };
    let answer = refused(Some(HttpResponse::Denied(denied)));
    assert_eq!((answer.status, &*answer.body), (401, &b"who?"[..]));
    assert_eq!(answer.headers, [("www-authenticate".into(), "Basic".to_owned())]);
    // Refused is refused, whatever else it says.
    let ok = HttpResponse::Ok(OkHttpResponse::default());
    assert_eq!(refused(Some(ok)).status, 403);
    assert_eq!(refused(None).status, 403);
}

#[test]
fn an_authoriser_is_told_of_the_request_as_it_goes_on() {
    let asked = Asked {
        method: "POST".to_owned(),
        target: "/a?b".to_owned(),
        authority: "server:80".to_owned(),
        scheme: "http".to_owned(),
        protocol: "HTTP/1.1",
        headers: vec![
            ("host".to_owned(), b"server:80".to_vec()),
            ("x-a".to_owned(), b"1".to_vec()),
            ("x-a".to_owned(), b"2".to_vec()),
            ("x-request-id".to_owned(), b"id".to_vec()),
        ],
        size: 3,
        body: super::super::asking::Body { bytes: b"abc".to_vec(), partial: false },
        parties: Parties::default(),
    };
    let request = request_of(&asked, false, SystemTime::UNIX_EPOCH).http.unwrap();
    assert_eq!((&*request.path, &*request.host, &*request.id), ("/a?b", "server:80", "id"));
    assert_eq!((&*request.body, request.size), ("abc", 3));
    let headers: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        (":authority", "server:80"),
        (":method", "POST"),
        (":path", "/a?b"),
        (":scheme", "http"),
        ("x-a", "1,2"),
        ("x-request-id", "id"),
    ];
    assert_eq!(headers, expected);
    let request = request_of(&asked, true, SystemTime::UNIX_EPOCH).http.unwrap();
    assert_eq!((&*request.body, &*request.raw_body), ("", &b"abc"[..]));
}
