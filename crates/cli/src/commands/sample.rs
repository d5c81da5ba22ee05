//! `heddle sample`: the sample services and their load generator.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use heddle_sample::{Connection, Endpoint, Kind, LoadOptions, LoadSummary, ServeOptions};
use tokio::runtime::Runtime;

use super::print::out;
use super::signals::stop_signal;
use crate::arguments::{LoadArguments, Output, SampleCommand, SampleService, ServeArguments};

pub(crate) fn run(command: SampleCommand) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    match command {
        SampleCommand::Serve(arguments) => serve(&runtime, arguments),
        SampleCommand::Get { url } => get(&runtime, &url),
        SampleCommand::Load(arguments) => load(&runtime, arguments),
    }
}

fn get(runtime: &Runtime, url: &str) -> Result<ExitCode> {
    let endpoint = Endpoint::parse(url).context("cannot send a request")?;
    let mut connection = Connection::new(endpoint, Duration::from_secs(10));
    let answer = runtime.block_on(connection.get(&[])).context("no answer")?;
    out(&String::from_utf8_lossy(answer.body()))?;
    Ok(if answer.status().is_success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn serve(runtime: &Runtime, arguments: ServeArguments) -> Result<ExitCode> {
    let options = ServeOptions {
        kind: match arguments.service {
            SampleService::Details => Kind::Details,
            SampleService::Productpage => Kind::Productpage,
            SampleService::Ratings => Kind::Ratings,
            SampleService::Reviews => Kind::Reviews,
        },
        version: arguments.version,
        port: arguments.port,
        replica: arguments.replica,
        details_url: arguments.details,
        reviews_url: arguments.reviews,
        ratings_url: arguments.ratings,
    };
    runtime.block_on(async {
        let stop = stop_signal()?;
        heddle_sample::serve(options, stop).await.context("the service ended")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn load(runtime: &Runtime, arguments: LoadArguments) -> Result<ExitCode> {
    let headers = arguments.headers.iter().map(|text| header(text)).collect::<Result<_>>()?;
    let endless = arguments.count.is_none() && arguments.duration.is_none();
    let options = LoadOptions {
        url: arguments.url,
        method: arguments.method,
        headers,
        count: arguments.count,
        duration: arguments.duration,
        connections: arguments.connections,
        rate: arguments.rate,
        close: arguments.close,
        timeout: arguments.timeout,
        show_body: arguments.show_body,
    };
    let output = arguments.output.output;
    let mut last = LoadSummary::default();
    let summary = runtime.block_on(async {
        let stop = stop_signal()?;
        let report = |summary: &LoadSummary| {
            if endless && output == Output::Text {
                // A reader that has gone is told of by the end of the run.
                let _ = out(&line(summary, &last, Duration::from_secs(1)));
                last = summary.clone();
            }
        };
        heddle_sample::run_load(options, stop, report).await.context("cannot send requests")
    })?;
    match output {
        Output::Json | Output::Yaml => out(&format!("{}\n", serde_json::to_string(&summary)?))?,
        Output::Text => out(&text(&summary))?,
    }
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn header(text: &str) -> Result<(String, String)> {
    let (name, value) =
        text.split_once(':').with_context(|| format!("header {text:?} has no colon"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn line(summary: &LoadSummary, before: &LoadSummary, period: Duration) -> String {
    let requests = summary.requests - before.requests;
    let failed = summary.failed - before.failed;
    format!(
        "{requests} requests in {} s, {failed} failed, p50 {} us, p99 {} us\n",
        period.as_secs(),
        summary.p50_us,
        summary.p99_us
    )
}

fn text(summary: &LoadSummary) -> String {
    let mut text = format!(
        "{} requests, {} failed, {:.1} s, p50 {} us, p99 {} us\n",
        summary.requests,
        summary.failed,
        Duration::from_millis(summary.elapsed_ms).as_secs_f64(),
        summary.p50_us,
        summary.p99_us
    );
    for (status, count) in &summary.statuses {
        text.push_str(&format!("  {count} x {status}\n"));
    }
    for (version, count) in &summary.versions {
        text.push_str(&format!("  {count} x {version}\n"));
    }
    for (error, count) in &summary.errors {
        text.push_str(&format!("  {count} x {error}\n"));
    }
    if let Some(body) = &summary.body {
        text.push_str(body);
        text.push('\n');
    }
    text
}
