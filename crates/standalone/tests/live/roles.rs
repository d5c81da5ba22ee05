//! What this program is when it is run with a role.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;

use heddle_standalone::{Ended, Options, start};

use crate::control;

type Role = fn(&[String]) -> ExitCode;

/// The role of a name.
pub(crate) fn find(name: &str) -> Option<Role> {
    let roles: &[(&str, Role)] = &[
        (heddle_net::process::RUN_PLAN, |_| {
            println!("{}", heddle_net::process::run_plan());
            ExitCode::FAILURE
        }),
        ("broker", broker),
        ("control", control::run),
        ("proxy", proxy),
        ("serve", serve),
        ("fetch", fetch),
    ];
    roles.iter().find(|(known, _)| *known == name).map(|(_, role)| *role)
}

/// A mesh in the state directory given, until standard input ends or SIGTERM comes.
fn broker(arguments: &[String]) -> ExitCode {
    let state = PathBuf::from(&arguments[0]);
    let mut options = Options::new(&state);
    options.control_arguments = vec!["control".into(), state.display().to_string()];
    options.path = std::env::var("PATH").unwrap();
    let mesh = match start(options) {
        Ok(mesh) => mesh,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            println!(
                "{error}: {}: {}",
                cause.unwrap_or_default(),
                error.hint().unwrap_or_default()
            );
            return ExitCode::from(3);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        // A test that is killed leaves no mesh behind.
        let mut input = tokio::net::unix::pipe::Receiver::from_owned_fd(
            std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned().unwrap(),
        )
        .unwrap();
        mesh.run(async {
            let mut byte = [0];
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::io::AsyncReadExt::read(&mut input, &mut byte) => {}
            }
        })
        .await
    });
    match ended.unwrap() {
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Failed(status) => {
            println!("the mesh ended: {status}");
            ExitCode::from(4)
        }
    }
}

/// Tells what its supervisor grants, then answers for a proxy's health and passes nothing on.
fn proxy(arguments: &[String]) -> ExitCode {
    println!("proxy {}", arguments.join(" "));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ask());
    let listener = TcpListener::bind("0.0.0.0:15021").unwrap();
    for stream in listener.incoming() {
        answer(stream.unwrap(), "ready");
    }
    ExitCode::SUCCESS
}

async fn ask() {
    use heddle_net::broker::{Client, Error, Grant, RefusalKind, Request};
    let supervisor = heddle_net::process::inherited_descriptor(3).unwrap();
    let (client, driver) = Client::new(supervisor).unwrap();
    tokio::spawn(driver.run());
    for (what, request) in [
        ("control plane", Request::Control),
        ("localhost", Request::Resolve("localhost".into())),
        ("the host's loopback", Request::Connect("127.0.0.1:1".parse().unwrap())),
        ("a port of the host", Request::Listen("127.0.0.1:0".parse().unwrap())),
    ] {
        let word = match client.request(&request).await {
            Ok(Grant::Addresses(_)) => "resolved",
            Ok(Grant::Descriptor(_)) => "reached",
            Err(Error::Refused(refusal)) if refusal.kind == RefusalKind::Denied => "denied",
            Err(error) => panic!("{what}: {error:?}"),
        };
        println!("{what}: {word}");
    }
}

/// Serves a text over HTTP on a port: `serve PORT TEXT`.
fn serve(arguments: &[String]) -> ExitCode {
    let port: u16 = arguments[0].parse().unwrap();
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    println!("serving on {port}");
    for stream in listener.incoming() {
        answer(stream.unwrap(), &arguments[1]);
    }
    ExitCode::SUCCESS
}

fn answer(mut stream: TcpStream, text: &str) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let length = text.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all((head + text).as_bytes());
}

/// Prints what `fetch HOST:PORT` answers to a GET, or why there is no answer.
fn fetch(arguments: &[String]) -> ExitCode {
    match get(&arguments[0]) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::from(7)
        }
    }
}

/// The body of the answer to a GET.
pub(crate) fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split_once("\r\n\r\n").map_or(text.clone(), |(_, body)| body.to_owned()))
}
