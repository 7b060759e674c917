//! One file: the request, the checks, the content.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use pasque::connection::ClientError;
use pasque::{Body, Request, Response};
use tokio::time::timeout;

use super::partial::{Kept, Partial};
use super::plan::{Plan, Unusable};
use super::progress::{Bar, Progress};
use super::writer::Writer;
use super::{Download, Place, Report, Source};
use crate::exit::{Exit, Failure};

/// How long the news of the connection's end may take after the end of a stream in it.
const CLOSE_NEWS: Duration = Duration::from_millis(200);

/// Fetches one file to its place.
pub(crate) async fn fetch(
    source: &Source<'_>,
    download: &Download,
    progress: &Progress,
) -> Result<Report, Failure> {
    let begin = Instant::now();
    let (len, digest) = match &download.place {
        Place::StandardOutput => to_standard_output(source, download, progress).await?,
        Place::File(target) => {
            let url = format!("https://{}{}", source.authority, download.file.path);
            let partial = Partial::open(target, &url)
                .map_err(|error| Failure::local(target.display(), &error))?;
            to_file(source, download, partial, progress).await?
        }
    };
    Ok(Report {
        place: download.place.clone(),
        len,
        digest,
        time: begin.elapsed(),
    })
}

async fn to_standard_output(
    source: &Source<'_>,
    download: &Download,
    progress: &Progress,
) -> Result<(u64, [u8; 32]), Failure> {
    let path = &download.file.path;
    let (plan, body) = ask(source, path, None).await?;
    let len = plan.len();
    let writer = Writer::spawn(|_| Ok(io::stdout()));
    let bar = progress.bar(path.clone(), len, 0);
    let received = Reception { source, path, bar }
        .run(body, len, &writer)
        .await;
    // An error of the writer explains why the reception ended; it comes first.
    let (_, digest) = writer
        .finish()
        .await
        .map_err(|error| Failure::local("standard output", &error))?;
    received.map(|()| (len, digest))
}

async fn to_file(
    source: &Source<'_>,
    download: &Download,
    mut partial: Partial,
    progress: &Progress,
) -> Result<(u64, [u8; 32]), Failure> {
    let path = &download.file.path;
    let kept = partial.kept();
    let (plan, body) = match ask(source, path, kept.as_ref()).await {
        Ok(answer) => answer,
        // A server that cannot give the rest of this part will not do so next time either.
        Err(failure) if kept.is_some() && failure.exit == Exit::Incomplete => {
            partial.discard();
            return Err(failure.with_advice("run the same command again to get the whole file"));
        }
        Err(failure) => return Err(failure),
    };
    let (offset, len) = (plan.offset(), plan.len());
    let writer = Writer::spawn(move |hash| {
        match plan {
            Plan::Whole { len, tag } => partial.restart(len, tag)?,
            Plan::Rest { offset, .. } => partial.resume(offset, hash)?,
        }
        Ok(partial)
    });
    let bar = progress.bar(path.clone(), offset + len, offset);
    let received = Reception { source, path, bar }
        .run(body, len, &writer)
        .await;
    let local = |error| Failure::local(path, &error);
    let (mut partial, digest) = writer.finish().await.map_err(local)?;
    match received {
        Ok(()) => {
            partial.commit().map_err(local)?;
            Ok((offset + len, digest))
        }
        Err(failure) if matches!(failure.exit, Exit::Incomplete | Exit::Lost) => {
            Err(match partial.is_worth_keeping() {
                true => failure.with_advice("what came is kept, and only the rest fetched then"),
                false => failure,
            })
        }
        Err(failure) => {
            partial.discard();
            Err(failure)
        }
    }
}

/// Asks for a file, or for the rest of one, and judges the answer.
async fn ask(
    source: &Source<'_>,
    path: &str,
    kept: Option<&Kept>,
) -> Result<(Plan, Body), Failure> {
    let Response {
        status,
        headers,
        body,
        ..
    } = send(source, path, kept)
        .await
        .map_err(|error| Failure::from_client(path, &error))?;
    match Plan::new(status, &headers, kept) {
        Ok(plan) => Ok((plan, body)),
        Err(Unusable::Status) if status.as_u16() == 416 && kept.is_some() => {
            let refused = "the server has less than was downloaded before";
            Err(Failure::new(Exit::Incomplete, format!("{path}: {refused}")))
        }
        Err(Unusable::Status) => Err(Failure::refused(path, status, &headers)),
        Err(Unusable::Doubtful(what)) => {
            Err(Failure::new(Exit::Incomplete, format!("{path}: {what}")))
        }
    }
}

async fn send(
    source: &Source<'_>,
    path: &str,
    kept: Option<&Kept>,
) -> Result<Response, ClientError> {
    let mut request = Request::get(path);
    request.authority.clone_from(&source.authority);
    request.headers.clone_from(&source.headers);
    // The digest and the length are to be those of the file itself.
    let identity = HeaderValue::from_static("identity");
    request.headers.insert(header::ACCEPT_ENCODING, identity);
    if let Some(Kept { tag, offset, .. }) = kept
        && let Ok(tag) = HeaderValue::try_from(tag)
        && let Ok(range) = HeaderValue::try_from(format!("bytes={offset}-"))
    {
        request.headers.insert(header::RANGE, range);
        request.headers.insert(header::IF_RANGE, tag);
    }
    source.connection.request(request).await
}

/// Content on its way to a writer.
struct Reception<'a> {
    source: &'a Source<'a>,
    path: &'a str,
    bar: Bar,
}

impl Reception<'_> {
    /// Moves the content, which must be of exactly `len` bytes.
    async fn run<W: Write + Send + 'static>(
        self,
        mut body: Body,
        len: u64,
        writer: &Writer<W>,
    ) -> Result<(), Failure> {
        let mut missing = len;
        loop {
            let chunk = match timeout(self.source.timeout, body.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => return Err(self.broken(&error, missing).await),
                Ok(None) if missing == 0 => return Ok(()),
                Ok(None) => return Err(self.cut_short("the content ended early", missing)),
                Err(_) => {
                    let seconds = self.source.timeout.as_secs();
                    return Err(self.cut_short(&format!("nothing came for {seconds} s"), missing));
                }
            };
            let chunk_len = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            missing = missing.checked_sub(chunk_len).ok_or_else(|| {
                // Which of its bytes are right then, nobody knows: nothing is kept.
                let what = "the server sends more than it announced";
                Failure::new(Exit::Refused, format!("{}: {what}", self.path))
            })?;
            self.bar.advance(chunk_len);
            if !writer.write(chunk).await {
                return Ok(()); // and `finish` says what happened
            }
        }
    }

    fn cut_short(&self, what: &str, missing: u64) -> Failure {
        let text = format!("{}: {what}, {missing} bytes are missing", self.path);
        Failure::new(Exit::Incomplete, text).with_advice("run the same command again")
    }

    /// What an error in the middle of the content means: the end of the connection is one thing,
    /// the end of this stream another.
    async fn broken(&self, error: &io::Error, missing: u64) -> Failure {
        match timeout(CLOSE_NEWS, self.source.connection.closed()).await {
            Ok(reason) => Failure::from_client(self.path, &ClientError::Closed(reason)),
            Err(_still_open) => self.cut_short(&error.to_string(), missing),
        }
    }
}
