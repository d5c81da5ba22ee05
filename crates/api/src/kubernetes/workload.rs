//! What makes pods: deployments and their kin.

use super::{PodTemplate, PodTemplateMeta};
use crate::value::{Free, LabelSelector};

object! {
    /// `spec` of a Deployment.
    Deployment {
        /// How many pods; absent means 1.
        "replicas" => replicas: Option<u32>,
        /// Which pods belong to it.
        "selector" => selector: LabelSelector [required],
        /// What its pods look like.
        "template" => template: PodTemplate [required],
        /// How pods are replaced.
        "strategy" => strategy: Option<Free>,
        /// Seconds a pod must be ready before it counts.
        "minReadySeconds" => min_ready_seconds: Option<u32>,
        /// Whether changes are held back.
        "paused" => paused: Option<bool>,
    }
    ignored {
        "progressDeadlineSeconds": "roll-outs are the deployment controller's business",
        "revisionHistoryLimit": "roll-outs are the deployment controller's business"
    }
}

object! {
    /// `spec` of a ReplicaSet.
    ReplicaSet {
        /// How many pods; absent means 1.
        "replicas" => replicas: Option<u32>,
        /// Which pods belong to it.
        "selector" => selector: LabelSelector [required],
        /// What its pods look like.
        "template" => template: Option<PodTemplate>,
        /// Seconds a pod must be ready before it counts.
        "minReadySeconds" => min_ready_seconds: Option<u32>,
    }
}

object! {
    /// `spec` of a StatefulSet.
    StatefulSet {
        /// How many pods; absent means 1.
        "replicas" => replicas: Option<u32>,
        /// Which pods belong to it.
        "selector" => selector: LabelSelector [required],
        /// What its pods look like.
        "template" => template: PodTemplate [required],
        /// The headless Service that gives its pods names.
        "serviceName" => service_name: Option<String>,
        /// Whether pods start one after the other.
        "podManagementPolicy" => pod_management_policy: Option<String>,
        /// How pods are replaced.
        "updateStrategy" => update_strategy: Option<Free>,
        /// Seconds a pod must be ready before it counts.
        "minReadySeconds" => min_ready_seconds: Option<u32>,
        /// The number of the first pod.
        "ordinals" => ordinals: Option<Free>,
        /// Storage of each pod.
        "volumeClaimTemplates" => volume_claim_templates: Vec<Free>,
    }
    ignored {
        "revisionHistoryLimit": "roll-outs are the controller's business",
        "persistentVolumeClaimRetentionPolicy": "storage is the cluster's business"
    }
}

object! {
    /// `spec` of a DaemonSet.
    DaemonSet {
        /// Which pods belong to it.
        "selector" => selector: LabelSelector [required],
        /// What its pods look like.
        "template" => template: PodTemplate [required],
        /// How pods are replaced.
        "updateStrategy" => update_strategy: Option<Free>,
        /// Seconds a pod must be ready before it counts.
        "minReadySeconds" => min_ready_seconds: Option<u32>,
    }
    ignored { "revisionHistoryLimit": "roll-outs are the controller's business" }
}

object! {
    /// `spec` of a Job.
    Job {
        /// What its pods look like.
        "template" => template: PodTemplate [required],
        /// How many pods run at a time; absent means 1.
        "parallelism" => parallelism: Option<u32>,
        /// How many pods must succeed; absent means 1.
        "completions" => completions: Option<u32>,
        /// How often it is tried again; absent means 6.
        "backoffLimit" => backoff_limit: Option<u32>,
        /// Seconds it may run altogether.
        "activeDeadlineSeconds" => active_deadline_seconds: Option<i64>,
        /// Seconds after which it is removed.
        "ttlSecondsAfterFinished" => ttl_seconds_after_finished: Option<u32>,
        /// Whether it is held back.
        "suspend" => suspend: Option<bool>,
        /// Which pods belong to it; usually set by the cluster.
        "selector" => selector: Option<LabelSelector>,
        /// Whether the selector is the user's.
        "manualSelector" => manual_selector: Option<bool>,
        /// Whether its pods are numbered.
        "completionMode" => completion_mode: Option<String>,
    }
    ignored {
        "podFailurePolicy": "failure rules are the job controller's business",
        "successPolicy": "success rules are the job controller's business",
        "backoffLimitPerIndex": "indexed retries are the job controller's business",
        "maxFailedIndexes": "indexed retries are the job controller's business",
        "podReplacementPolicy": "replacement is the job controller's business",
        "managedBy": "other job controllers are the cluster's business"
    }
}

object! {
    /// `spec` of a CronJob.
    CronJob {
        /// When, in cron notation.
        "schedule" => schedule: String [required, not_empty],
        /// What to run.
        "jobTemplate" => job_template: JobTemplate [required],
        /// The time zone of the schedule.
        "timeZone" => time_zone: Option<String>,
        /// What to do when the last run has not ended.
        "concurrencyPolicy" => concurrency_policy: Option<String>,
        /// Whether it is held back.
        "suspend" => suspend: Option<bool>,
        /// Seconds a run may begin late.
        "startingDeadlineSeconds" => starting_deadline_seconds: Option<i64>,
        /// How many successful runs are kept.
        "successfulJobsHistoryLimit" => successful_jobs_history_limit: Option<u32>,
        /// How many failed runs are kept.
        "failedJobsHistoryLimit" => failed_jobs_history_limit: Option<u32>,
    }
}

object! {
    /// What a CronJob runs.
    JobTemplate {
        /// Labels and annotations of the jobs.
        "metadata" => metadata: PodTemplateMeta,
        /// `spec` of the jobs.
        "spec" => spec: Job [required],
    }
}
