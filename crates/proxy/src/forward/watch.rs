//! What ends a request before its end: timeouts of the whole of it, of the response and of silence, and a policy that newly
//! denies it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use heddle_http::deadline::Deadline;
use heddle_http::progress::Progress;
use heddle_ir::http_route::StreamTimeouts;
use heddle_telemetry::{Reason, ResponseFlag};
use tokio::time::{Instant, sleep_until};

use crate::forward::answer::Answer;

/// What is watched of a stream; nothing where no timeout is configured, which then costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(Option<Rc<Watched>>);

#[derive(Debug)]
struct Watched {
    progress: Rc<Progress>,
    timeouts: StreamTimeouts,
}

/// What may come to be denied while it is under way.
pub(crate) trait Standing {
    /// Whether it is denied by now; if not, the task is woken when it is to be asked again.
    fn poll_denied(&self, cx: &mut Context<'_>) -> bool;
}

/// Why something was ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutShort {
    /// A policy newly denies it.
    Denied,
    /// The request, the try or the response.
    Due,
    /// Nothing moved.
    Idle,
}

impl CutShort {
    /// What the client gets, where it has got nothing yet.
    pub(crate) fn answer(self) -> Answer {
        match self {
            Self::Denied => Answer::denied(),
            Self::Due => Answer::upstream_timeout(),
            Self::Idle => Answer::idle_timeout(),
        }
    }

    /// What records say.
    pub(crate) fn flag(self) -> ResponseFlag {
        match self {
            Self::Denied => ResponseFlag::LocalReset,
            Self::Due => ResponseFlag::UpstreamRequestTimeout,
            Self::Idle => ResponseFlag::StreamIdleTimeout,
        }
    }

    /// The word for a response that was cut off, where there is more to say than its flag.
    pub(crate) fn reason(self) -> Option<Reason> {
        (self == Self::Denied).then_some(Reason::AuthorizationDenied)
    }
}

impl Watch {
    pub(crate) fn new(timeouts: Option<&StreamTimeouts>) -> Self {
        let timeouts = timeouts.filter(|timeouts| **timeouts != StreamTimeouts::default());
        let watched = |timeouts: &StreamTimeouts| {
            Rc::new(Watched { progress: Rc::new(Progress::new()), timeouts: *timeouts })
        };
        Self(timeouts.map(watched))
    }

    /// What is to be told of what moves; none: nobody wants to know.
    pub(crate) fn progress(&self) -> Option<&Rc<Progress>> {
        self.0.as_ref().map(|watched| &watched.progress)
    }

    /// When the stream is given up if nothing more happens, and why.
    fn due(&self) -> Option<(Instant, CutShort)> {
        let Watched { progress, timeouts } = &**self.0.as_ref()?;
        let idle = timeouts.idle.map(|idle| (progress.moved() + idle, CutShort::Idle));
        let ended = progress.request_ended();
        let response = timeouts.response.zip(ended).map(|(after, at)| (at + after, CutShort::Due));
        idle.into_iter().chain(response).min_by_key(|(due, _)| *due)
    }

    /// The outcome of `future`, unless it takes until `due`, is silent for too long or is newly denied. Without limits it
    /// costs nothing.
    pub(crate) async fn within<F: Future>(
        &self,
        standing: Option<&dyn Standing>,
        due: Option<Instant>,
        future: F,
    ) -> Result<F::Output, CutShort> {
        let mut future = pin!(future);
        let mut timer = due.map(|due| Box::pin(sleep_until(due)));
        let mut own: Option<Box<Deadline>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if standing.is_some_and(|standing| standing.poll_denied(cx)) {
                return Poll::Ready(Err(CutShort::Denied));
            }
            if let Some(timer) = &mut timer
                && timer.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Err(CutShort::Due));
            }
            let Some((due, why)) = self.due() else { return Poll::Pending };
            let deadline = own.get_or_insert_with(|| Box::new(Deadline::new(due)));
            deadline.set(due);
            deadline.poll(cx).map(|()| Err(why))
        })
        .await
    }
}

/// The outcome of `future`, unless it takes until `due` or is newly denied.
pub(crate) async fn within<F: Future>(
    standing: Option<&dyn Standing>,
    due: Option<Instant>,
    future: F,
) -> Result<F::Output, CutShort> {
    Watch::default().within(standing, due, future).await
}
