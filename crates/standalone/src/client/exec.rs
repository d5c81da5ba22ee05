//! Running a command inside a workload with the caller's own streams.

use std::os::fd::BorrowedFd;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use heddle_net::socket::send_descriptors;

use super::{Client, ClientError};
use crate::exec::{ExecEvent, ExecOrder, ExecRequest, LINE_BYTES_MAX};

impl Client {
    /// Runs a command with these descriptors as its standard streams, and waits for its end: its exit code, or 128
    /// and the number of the signal that ended it. When `terminate` ends first, the command gets SIGTERM.
    /// Dropping the future kills it.
    ///
    /// For a terminal the caller makes a pseudo-terminal, passes its far end three times with
    /// [`ExecRequest::terminal`] set, and carries bytes and window sizes between it and its own.
    pub async fn exec(
        &self,
        request: &ExecRequest,
        streams: [BorrowedFd<'_>; 3],
        terminate: impl Future<Output = ()>,
    ) -> Result<i32, ClientError> {
        let stream = self.connect(self.state().exec_socket()).await?;
        let mut line =
            serde_json::to_vec(request).map_err(|error| ClientError::Answer(error.to_string()))?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Err(ClientError::Refused("the command is too long".to_owned()));
        }
        let sent = stream
            .async_io(tokio::io::Interest::WRITABLE, || send_descriptors(&stream, &line, &streams))
            .await?;
        let (reader, mut writer) = stream.into_split();
        // A short write leaves the descriptors with the bytes that went.
        writer.write_all(&line[sent..]).await?;
        let mut lines = BufReader::new(reader).lines();
        tokio::pin!(terminate);
        let mut terminated = false;
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                () = &mut terminate, if !terminated => {
                    terminated = true;
                    let order = serde_json::to_vec(&ExecOrder::Terminate).unwrap_or_default();
                    writer.write_all(&order).await?;
                    continue;
                }
            };
            let gone = || ClientError::Answer("the supervisor ended".to_owned());
            let event = serde_json::from_str(&line.ok_or_else(gone)?);
            match event.map_err(|error| ClientError::Answer(error.to_string()))? {
                ExecEvent::Started => {}
                ExecEvent::Exited(code) => return Ok(code),
                ExecEvent::Failed { message, code: Some(code) } => {
                    return Err(ClientError::NotRunnable { message, code });
                }
                ExecEvent::Failed { message, code: None } => {
                    return Err(ClientError::Refused(message));
                }
            }
        }
    }
}
