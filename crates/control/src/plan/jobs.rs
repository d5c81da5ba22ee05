//! Jobs: which of their pods may run, which have to be tried again, and when it is over. Pure.
//!
//! What has succeeded stays so when the mesh is stopped and started again, as in a cluster.

use std::collections::{BTreeMap, BTreeSet};

use heddle_api::kubernetes::{Job, RestartPolicy};
use serde::{Deserialize, Serialize};

/// The document with the runs of jobs.
pub(crate) const DOCUMENT: &str = "jobs";
/// Kubernetes' default of `backoffLimit`.
const BACKOFF_LIMIT: u32 = 6;
/// Before the second try; doubled before every further one. A cluster begins with ten seconds; here a developer waits.
const PAUSE_MS: u64 = 1_000;
const PAUSE_MAX_MS: u64 = 360_000;

/// Every job that has begun, by namespace and name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Jobs {
    runs: BTreeMap<String, Run>,
}

/// One run of a job.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Another one: the job is another job.
    identity: String,
    pub(crate) started_at_ms: u64,
    pub(crate) finished: Option<Finish>,
    /// Pods that have succeeded.
    pub(crate) succeeded: BTreeSet<String>,
    /// Tries that failed.
    pub(crate) failed: u32,
    attempts: BTreeMap<String, Attempt>,
}

/// How a job ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Finish {
    pub(crate) at_ms: u64,
    /// `Complete`, `BackoffLimitExceeded` or `DeadlineExceeded`.
    pub(crate) reason: String,
}

impl Finish {
    /// Whether everything succeeded.
    pub(crate) fn is_complete(&self) -> bool {
        self.reason == "Complete"
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Attempt {
    number: u32,
    not_before_ms: u64,
}

/// A pod of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Which try it is.
    pub(crate) attempt: u32,
    pub(crate) state: MemberState,
    /// How often its containers were started again.
    pub(crate) restarts: u32,
}

/// Where a pod of a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MemberState {
    /// It ended with an error.
    Failed,
    /// It is not to run now.
    Held,
    /// It is on its way out.
    Leaving,
    /// It runs, or is about to.
    Runs,
    /// It ended well.
    Succeeded,
}

/// What is to be done with a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Take it away; one that failed is tried again.
    Stop(String),
    /// Let it run.
    Start(String),
}

impl Jobs {
    /// Looks at the pods of a job. `identity` names this very job, whatever its name.
    pub(crate) fn follow(
        &mut self,
        name: &str,
        identity: &str,
        job: &Job,
        members: &[Member],
        now_ms: u64,
    ) -> Vec<Step> {
        let run = self.runs.entry(name.to_owned()).or_default();
        if run.identity != identity {
            *run = Run { identity: identity.to_owned(), started_at_ms: now_ms, ..Run::default() };
        }
        run.follow(job, members, now_ms)
    }

    /// A job's run; none: it has not begun.
    pub(crate) fn of(&self, name: &str) -> Option<&Run> {
        self.runs.get(name)
    }

    /// Forgets jobs that are not there any more.
    pub(crate) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.runs.retain(|name, _| is_there(name));
    }
}

impl Run {
    /// Which try of a pod is due.
    pub(crate) fn attempt(&self, pod: &str) -> u32 {
        self.attempts.get(pod).map_or(0, |attempt| attempt.number)
    }

    /// When something is due without anybody's doing.
    pub(crate) fn next_ms(&self, job: &Job, now_ms: u64) -> Option<u64> {
        if self.finished.is_some() {
            return self.expires_ms(job).filter(|at| *at > now_ms);
        }
        let waits = self.attempts.values().map(|attempt| attempt.not_before_ms);
        waits.chain(self.deadline_ms(job)).filter(|at| *at > now_ms).min()
    }

    /// When the job is removed (`ttlSecondsAfterFinished`).
    pub(crate) fn expires_ms(&self, job: &Job) -> Option<u64> {
        let seconds = job.ttl_seconds_after_finished?;
        Some(self.finished.as_ref()?.at_ms + u64::from(seconds) * 1000)
    }

    fn deadline_ms(&self, job: &Job) -> Option<u64> {
        let seconds = u64::try_from(job.active_deadline_seconds?).ok()?;
        Some(self.started_at_ms + seconds.saturating_mul(1000))
    }

    fn follow(&mut self, job: &Job, members: &[Member], now_ms: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        for member in members {
            match member.state {
                MemberState::Succeeded => {
                    self.succeeded.insert(member.name.clone());
                }
                MemberState::Failed if member.attempt == self.attempt(&member.name) => {
                    self.failed += 1;
                    let pause = PAUSE_MS << (self.failed - 1).min(20);
                    let attempt = Attempt {
                        number: member.attempt + 1,
                        not_before_ms: now_ms + pause.min(PAUSE_MAX_MS),
                    };
                    self.attempts.insert(member.name.clone(), attempt);
                }
                _ => {}
            }
        }
        self.judge(job, members, now_ms);
        if let Some(finish) = &self.finished {
            if !finish.is_complete() {
                let runs = members.iter().filter(|member| member.state == MemberState::Runs);
                steps.extend(runs.map(|m| Step::Stop(m.name.clone())));
            }
            return steps;
        }
        let failed = members.iter().filter(|member| member.state == MemberState::Failed);
        steps.extend(failed.map(|m| Step::Stop(m.name.clone())));
        let parallelism = job.parallelism.unwrap_or(1) as usize;
        let active = members.iter().filter(|member| member.state == MemberState::Runs).count();
        let due = members.iter().filter(|member| {
            let attempt = self.attempts.get(&member.name);
            member.state == MemberState::Held
                && !self.succeeded.contains(&member.name)
                && attempt.is_none_or(|attempt| now_ms >= attempt.not_before_ms)
        });
        let due = due.take(parallelism.saturating_sub(active));
        steps.extend(due.map(|member| Step::Start(member.name.clone())));
        steps
    }

    /// Whether it is over.
    fn judge(&mut self, job: &Job, members: &[Member], now_ms: u64) {
        if self.finished.is_some() || members.is_empty() {
            return;
        }
        let limit = job.backoff_limit.unwrap_or(BACKOFF_LIMIT);
        let on_failure = job.template.spec.restart_policy == Some(RestartPolicy::OnFailure);
        let restarts: u32 = members
            .iter()
            .filter(|member| member.state == MemberState::Runs)
            .map(|member| member.restarts)
            .sum();
        let tried_enough = self.failed > limit || on_failure && restarts > 0 && restarts >= limit;
        let reason = if members.iter().all(|member| self.succeeded.contains(&member.name)) {
            "Complete"
        } else if tried_enough {
            "BackoffLimitExceeded"
        } else if self.deadline_ms(job).is_some_and(|deadline| now_ms >= deadline) {
            "DeadlineExceeded"
        } else {
            return;
        };
        self.finished = Some(Finish { at_ms: now_ms, reason: reason.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: &str) -> Job {
        let text = format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: j}}\nspec: {{{spec}, template: {{spec: {{restartPolicy: Never, \
             containers: [{{name: c}}]}}}}}}\n"
        );
        let loaded = heddle_api::Reader::default().read_file("j.yaml", text.as_bytes());
        match loaded.resources.first() {
            Some(heddle_api::Resource::Job(job)) => job.spec.clone(),
            other => panic!("{other:?} {:?}", loaded.diagnostics),
        }
    }

    /// A small cluster: starts what shall start, and ends it as told.
    struct World {
        jobs: Jobs,
        job: Job,
        members: Vec<Member>,
        now_ms: u64,
    }

    impl World {
        fn new(spec: &str, pods: usize) -> Self {
            let member = |number| Member {
                name: format!("j-{number}"),
                attempt: 0,
                state: MemberState::Held,
                restarts: 0,
            };
            let members = (0..pods).map(member).collect();
            Self { jobs: Jobs::default(), job: job(spec), members, now_ms: 1 }
        }

        fn step(&mut self) {
            for step in self.jobs.follow("d/j", "1", &self.job, &self.members, self.now_ms) {
                let (name, state) = match step {
                    Step::Start(name) => (name, MemberState::Runs),
                    Step::Stop(name) => (name, MemberState::Held),
                };
                let member = self.members.iter_mut().find(|member| member.name == name).unwrap();
                member.attempt += u32::from(member.state == MemberState::Failed);
                member.state = state;
            }
        }

        /// Ends what runs; how many there were.
        fn end(&mut self, state: MemberState) -> usize {
            let mut ended = 0;
            for member in self.members.iter_mut().filter(|m| m.state == MemberState::Runs) {
                member.state = state;
                ended += 1;
            }
            ended
        }

        fn reason(&self) -> Option<&str> {
            self.jobs.of("d/j").unwrap().finished.as_ref().map(|finish| finish.reason.as_str())
        }
    }

    #[test]
    fn as_many_run_at_a_time_as_may_until_all_have_succeeded() {
        let mut world = World::new("completions: 5, parallelism: 2", 5);
        for expected in [2, 2, 1] {
            world.step();
            assert_eq!(world.end(MemberState::Succeeded), expected);
        }
        world.step();
        assert_eq!(world.reason(), Some("Complete"));
        world.step();
        assert_eq!(world.end(MemberState::Succeeded), 0);
    }

    #[test]
    fn it_is_tried_again_as_often_as_may_be() {
        let mut world = World::new("backoffLimit: 2, ttlSecondsAfterFinished: 3", 1);
        for pause in [1_000, 2_000] {
            world.step();
            assert_eq!(world.end(MemberState::Failed), 1);
            world.step();
            assert_eq!(world.end(MemberState::Failed), 0, "it rests");
            world.now_ms += pause;
        }
        world.step();
        assert_eq!(world.end(MemberState::Failed), 1);
        world.step();
        assert_eq!(world.reason(), Some("BackoffLimitExceeded"));
        let run = world.jobs.of("d/j").unwrap();
        assert_eq!((run.failed, run.expires_ms(&world.job)), (3, Some(world.now_ms + 3000)));
    }

    #[test]
    fn its_time_is_bounded_and_another_job_of_its_name_begins_anew() {
        let mut world = World::new("activeDeadlineSeconds: 5, completions: 2", 2);
        world.step();
        world.now_ms += 5_000;
        world.step();
        assert_eq!(world.reason(), Some("DeadlineExceeded"));
        assert_eq!(world.end(MemberState::Failed), 0, "what ran was stopped");
        world.jobs.follow("d/j", "2", &world.job, &world.members, world.now_ms);
        assert_eq!(world.reason(), None);
    }
}
