//! Running commands inside workloads for whoever asks on the exec socket.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use heddle_net::process::Stream;
use heddle_net::socket::{listen_unix, receive_descriptors};

use super::launch::{Process, Signal, StartFailure, environment};
use super::{Services, select};
use crate::exec::{ExecEvent, ExecOrder, ExecRequest, LINE_BYTES_MAX};

/// Commands at once; further callers are turned away.
const SESSIONS_MAX: usize = 256;

/// Begins to listen, and gives the future that answers.
pub(super) fn listen(services: Arc<Services>) -> io::Result<impl Future<Output = ()>> {
    let listener = listen_unix(&services.state.exec_socket())?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    Ok(async move {
        let mut sessions = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            while sessions.try_join_next().is_some() {}
            if sessions.len() < SESSIONS_MAX {
                sessions.spawn(session(Arc::clone(&services), stream));
            }
        }
    })
}

async fn session(services: Arc<Services>, mut stream: UnixStream) {
    let process = match begin(&services, &stream).await {
        Ok(process) => process,
        Err(StartFailure { message, code }) => {
            return say(&mut stream, &ExecEvent::Failed { message, code }).await;
        }
    };
    say(&mut stream, &ExecEvent::Started).await;
    // When the caller is gone, the process is dropped, which kills it.
    if let Some(code) = attend(process, &stream).await {
        say(&mut stream, &ExecEvent::Exited(code)).await;
    }
}

/// Reads the request and starts the command.
async fn begin(services: &Services, stream: &UnixStream) -> Result<Process, StartFailure> {
    let (line, descriptors) =
        read_request(stream).await.map_err(|error| format!("no request: {error}"))?;
    let request: ExecRequest = serde_json::from_slice(&line)
        .map_err(|error| format!("the request is no JSON: {error}"))?;
    let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(descriptors)
        .map_err(|_| "the request must bring three descriptors".to_owned())?;
    let status = services.board.snapshot();
    let workload = select::workload(&status.workloads, &request.workload)?;
    let name = select::container(workload, request.container.as_deref())?;
    let container = workload
        .container(&name)
        .ok_or("a command can be run in a container of the application only, not in the proxy")
        .map_err(str::to_owned)?;
    let pid = container.process.pid.ok_or_else(|| {
        format!("container {name} of {}/{} does not run", workload.namespace, workload.name)
    })?;
    let context = services
        .context(&workload.id, &workload.uid)
        .ok_or_else(|| format!("{}/{} is being stopped", workload.namespace, workload.name))?;
    let description = context.container(&name).ok_or_else(|| "the container is gone".to_owned())?;
    let mut plan = context.exec_plan(description, pid, &request.command)?;
    let extra = request.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    plan.environment.extend(environment(extra));
    plan.stdin = Stream::Descriptor(stdin);
    plan.stdout = Stream::Descriptor(stdout);
    plan.stderr = Stream::Descriptor(stderr);
    plan.controlling_terminal = request.terminal;
    services.launcher.try_start(plan).await
}

/// One line, and the descriptors that came with its first byte.
async fn read_request(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut line = Vec::new();
    let mut descriptors = Vec::new();
    while line.last() != Some(&b'\n') {
        let message = stream
            .async_io(Interest::READABLE, || receive_descriptors(stream, LINE_BYTES_MAX))
            .await?;
        if message.payload.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&message.payload);
        descriptors.extend(message.descriptors);
        if line.len() > LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"));
        }
    }
    Ok((line, descriptors))
}

/// Waits for the end; none when the caller is gone first.
async fn attend(mut process: Process, stream: &UnixStream) -> Option<i32> {
    let mut buffer = [0; 256];
    loop {
        tokio::select! {
            code = process.wait() => return Some(code),
            read = async {
                stream.readable().await?;
                stream.try_read(&mut buffer)
            } => match read {
                Ok(0) => return None,
                Ok(length) => match serde_json::from_slice(&buffer[..length]) {
                    Ok(ExecOrder::Terminate) => process.signal(Signal::Terminate),
                    Err(_) => return None,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            },
        }
    }
}

async fn say(stream: &mut UnixStream, event: &ExecEvent) {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    // The caller may be gone; then nobody wants to know.
    let _ = stream.write_all(&line).await;
}
