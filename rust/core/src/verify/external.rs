//! math-verify in a process of its own, which can be killed.
//!
//! The program reads one JSON object a line, `{"gold", "answer", "cpu_seconds"}`, and answers each with a line
//! `{"verdict": "equal" | "different" | "undecided", "detail"}`. Its first line is `{"ready": true}` or `{"error"}`. It ends
//! itself (by a signal of the kernel) when a request takes more processor time than it may; this side ends it when no
//! verdict arrives in time. Both are undecided pairs, and the next request starts a new process.
//!
//! A killed build leaves nothing behind: the program ends with its standard input, at the latest after its own limit.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The import of sympy on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// What a verifier says about a pair of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They are the same.
    Equal,
    /// They are not.
    Different,
    /// No verdict: neither right nor wrong.
    Undecided(Cause),
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The pair took more processor time than it may.
    CpuLimit,
    /// The process gave no verdict in time although it had processor time left: a machine that is far too busy.
    WallLimit,
    /// The process ended.
    Died,
    /// The program reported an error of this name, such as `MemoryError`.
    Failed(String),
}

impl Cause {
    /// Name in reports.
    pub fn name(&self) -> &str {
        match self {
            Cause::CpuLimit => "cpu_limit",
            Cause::WallLimit => "wall_limit",
            Cause::Died => "died",
            Cause::Failed(name) => name,
        }
    }
}

/// How long one pair may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Seconds of processor time; the verdict depends on these.
    pub cpu_seconds: f64,
    /// Seconds until the process is killed in any case.
    pub wall_seconds: f64,
}

impl Limits {
    /// Limits by processor time; the wall clock leaves room for a machine three times as busy as it should be.
    pub fn cpu(cpu_seconds: f64) -> Self {
        Limits { cpu_seconds, wall_seconds: 3.0 * cpu_seconds + 5.0 }
    }
}

impl Default for Limits {
    /// Ten seconds of processor time.
    fn default() -> Self {
        Limits::cpu(10.0)
    }
}

/// A verifier program; its process starts with the first request. For use by one thread.
#[derive(Debug)]
pub struct ExternalVerifier {
    command: Vec<String>,
    limits: Limits,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    requests: ChildStdin,
    replies: Receiver<String>,
    /// Requests that this process has answered.
    served: u64,
}

#[derive(Serialize)]
struct Request<'a> {
    gold: &'a str,
    answer: &'a str,
    cpu_seconds: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reply {
    Verdict { verdict: String, detail: String },
    Error { error: String },
    Ready { ready: bool },
}

impl ExternalVerifier {
    /// A verifier that runs `command`: a program and its arguments.
    pub fn new(command: Vec<String>, limits: Limits) -> Self {
        ExternalVerifier { command, limits, running: None }
    }

    /// The program's verdict on a gold answer and the content of a box.
    ///
    /// # Errors
    /// When the program does not start, says that it cannot work, or does not keep to the protocol.
    pub fn verify(&mut self, gold: &str, answer: &str) -> Result<Verdict> {
        loop {
            let mut running = match self.running.take() {
                Some(running) => running,
                None => self.start()?,
            };
            let fresh = running.served == 0;
            let verdict = self.ask(&mut running, gold, answer)?;
            let lives = !matches!(verdict, Verdict::Undecided(_));
            if lives {
                self.running = Some(running);
            }
            // What other pairs have left in memory is not this one's fault: it gets a process of its own.
            let alone = fresh || matches!(verdict, Verdict::Undecided(Cause::CpuLimit | Cause::WallLimit));
            if lives || alone {
                return Ok(verdict);
            }
        }
    }

    /// A machine short of memory may kill a program that is not at fault: a few more tries, after a while.
    fn start(&self) -> Result<Running> {
        for pause in [0, 1, 5] {
            thread::sleep(Duration::from_secs(pause));
            if let Ok(running) = self.try_start()? {
                return Ok(running);
            }
        }
        self.try_start()?
    }

    /// A process that is ready. The inner error may be one of the machine, the outer one is the program's.
    fn try_start(&self) -> Result<Result<Running>> {
        let failed = |problem: String| {
            let command = self.command.join(" ");
            Error::Config(format!("the verifier program does not work: {problem}; to see more, run: {command}"))
        };
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| failed("no command is given".to_string()))?;
        let mut child = Command::new(program)
            .args(arguments)
            // The order of sets in Python, and with it the time that sympy takes, is the same in every process.
            .env("PYTHONHASHSEED", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(format!("cannot start {program}: {error}")))?;
        let (Some(requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("no pipes".to_string()));
        };
        let (sender, replies) = sync_channel(1);
        thread::spawn(move || {
            // Ends with the process, or when nobody listens any more.
            for line in BufReader::new(output).lines() {
                if line.map_or(true, |line| sender.send(line).is_err()) {
                    break;
                }
            }
        });
        let mut running = Running { child, requests, replies, served: 0 };
        match running.replies.recv_timeout(START_LIMIT).map(|line| serde_json::from_str::<Reply>(&line)) {
            Ok(Ok(Reply::Ready { ready: true })) => Ok(Ok(running)),
            Ok(Ok(Reply::Error { error })) => Err(Error::Config(error)),
            Ok(_) => Err(failed("its first line is not {\"ready\": true}".to_string())),
            Err(RecvTimeoutError::Timeout) => Ok(Err(failed("it was not ready in two minutes".to_string()))),
            Err(RecvTimeoutError::Disconnected) => {
                let status = running.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Ok(Err(failed(format!("it ended before it was ready ({status})"))))
            }
        }
    }

    fn ask(&self, running: &mut Running, gold: &str, answer: &str) -> Result<Verdict> {
        let request = Request { gold, answer, cpu_seconds: self.limits.cpu_seconds };
        let mut line = serde_json::to_vec(&request).map_err(|error| Error::Config(error.to_string()))?;
        line.push(b'\n');
        // If the process is gone, the reply tells.
        let _ = running.requests.write_all(&line).and_then(|()| running.requests.flush());
        match running.replies.recv_timeout(Duration::from_secs_f64(self.limits.wall_seconds)) {
            Ok(line) => {
                running.served += 1;
                reply(&line)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Verdict::Undecided(Cause::WallLimit)),
            Err(RecvTimeoutError::Disconnected) => Ok(Verdict::Undecided(running.end_cause())),
        }
    }
}

fn reply(line: &str) -> Result<Verdict> {
    let Ok(Reply::Verdict { verdict, detail }) = serde_json::from_str(line) else {
        return Err(Error::Config(format!("the verifier program replied {line:?}, which is no verdict")));
    };
    Ok(match verdict.as_str() {
        "equal" => Verdict::Equal,
        "different" => Verdict::Different,
        _ => Verdict::Undecided(Cause::Failed(detail)),
    })
}

impl Running {
    /// Why the process closed its output.
    fn end_cause(&mut self) -> Cause {
        const SIGXCPU: i32 = 24;
        const SIGPROF: i32 = 27;
        let status: Option<ExitStatus> = self.child.wait().ok();
        match status.and_then(|status| status.signal()) {
            Some(SIGXCPU | SIGPROF) => Cause::CpuLimit,
            _ => Cause::Died,
        }
    }
}

impl Drop for Running {
    /// No process is left over, nor an entry in the process table.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A clock for the time that is spent waiting for verdicts.
pub(super) fn timed<T>(seconds: &mut f64, action: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = action();
    *seconds += began.elapsed().as_secs_f64();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program in shell: `body` handles one request, in `$line`.
    fn shell(body: &str) -> Vec<String> {
        let script = format!("echo '{{\"ready\": true}}'; while read -r line; do {body}; done");
        ["sh", "-c", &script].map(str::to_string).to_vec()
    }

    fn verifier(body: &str, wall_seconds: f64) -> ExternalVerifier {
        ExternalVerifier::new(shell(body), Limits { cpu_seconds: 1.0, wall_seconds })
    }

    #[test]
    fn verdicts_of_the_program() {
        let body = r#"case $line in *'"gold":"1"'*) v=equal;; *) v=different;; esac;
            echo "{\"verdict\": \"$v\", \"detail\": \"\"}""#;
        let mut verifier = verifier(body, 20.0);
        assert_eq!(verifier.verify("1", "x").unwrap(), Verdict::Equal);
        assert_eq!(verifier.verify("2", "x\n\"").unwrap(), Verdict::Different);
    }

    #[test]
    fn silence_ends_at_the_limit_and_a_new_process_goes_on() {
        let body = r#"case $line in *hang*) sleep 60;; *) echo '{"verdict": "equal", "detail": ""}';; esac"#;
        let mut verifier = verifier(body, 0.5);
        let began = Instant::now();
        assert_eq!(verifier.verify("1", "hang").unwrap(), Verdict::Undecided(Cause::WallLimit));
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(verifier.verify("1", "1").unwrap(), Verdict::Equal);
    }

    #[test]
    fn the_signal_of_the_processor_limit_is_told_apart() {
        let mut verifier = verifier("case $line in *slow*) kill -PROF $$;; *) exit 3;; esac", 20.0);
        assert_eq!(verifier.verify("1", "slow").unwrap(), Verdict::Undecided(Cause::CpuLimit));
        assert_eq!(verifier.verify("1", "1").unwrap(), Verdict::Undecided(Cause::Died));
    }

    #[test]
    fn a_process_full_of_other_pairs_is_replaced_once() {
        let folder = tempfile::tempdir().unwrap();
        let counter = folder.path().join("starts");
        let script = format!(
            r#"echo x >> {0}; echo '{{"ready": true}}'; read -r line; echo '{{"verdict": "equal", "detail": ""}}'; read -r line;
            echo '{{"verdict": "undecided", "detail": "MemoryError"}}'"#,
            counter.display()
        );
        let command = ["sh", "-c", &script].map(str::to_string).to_vec();
        let mut verifier = ExternalVerifier::new(command, Limits::default());
        assert_eq!(verifier.verify("1", "1").unwrap(), Verdict::Equal);
        assert_eq!(verifier.verify("2", "2").unwrap(), Verdict::Equal);
        assert_eq!(std::fs::read_to_string(&counter).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_program_that_cannot_work_says_why() {
        for (command, expected) in [
            (vec![], "no command"),
            (vec!["/nonexistent/program".to_string()], "cannot start /nonexistent/program"),
            (["sh", "-c", "exit 3"].map(str::to_string).to_vec(), "it ended before it was ready (exit status: 3)"),
            (["sh", "-c", "echo hello"].map(str::to_string).to_vec(), "first line"),
            (["sh", "-c", r#"echo '{"error": "install it"}'"#].map(str::to_string).to_vec(), "install it"),
        ] {
            let problem = ExternalVerifier::new(command, Limits::default()).verify("1", "1").unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn a_start_that_fails_once_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let script = format!(
            r#"if [ ! -e {0} ]; then touch {0}; kill -KILL $$; fi
            echo '{{"ready": true}}'; read -r line; echo '{{"verdict": "equal", "detail": ""}}'"#,
            mark.display()
        );
        let command = ["sh", "-c", &script].map(str::to_string).to_vec();
        assert_eq!(ExternalVerifier::new(command, Limits::default()).verify("1", "1").unwrap(), Verdict::Equal);
    }

    #[test]
    fn dropping_it_ends_the_process() {
        let mut verifier = verifier(r#"echo "{\"verdict\": \"undecided\", \"detail\": \"$$\"}""#, 20.0);
        let Verdict::Undecided(Cause::Failed(pid)) = verifier.verify("1", "1").unwrap() else { panic!() };
        drop(verifier);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
