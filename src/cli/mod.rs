//! The command line: one file per command.
//!
//! Every command takes `--json` (one object, or JSON lines, on stdout; logs on stderr), exits 0 when it did what was
//! asked, 1 when it could not (and says what to do), 2 when it was called wrongly.

#[macro_use]
mod out;
mod call;
mod check;
mod demo;
mod doctor;
mod load;
mod seat;
mod serve;
mod setup;
mod speak;
mod test;
mod trace;
mod transcribe;
mod understand;

use clap::{Parser, Subcommand};
use std::io::IsTerminal;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "zongji", version, about = "Zongji (总机): a company's voice hotline in one program")]
struct Cli {
    /// Print machine-readable JSON on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Configuration file (default: ./zongji.toml when it exists, else built-in defaults; `demo` reads none by itself).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer calls until stopped.
    Serve(serve::Args),
    /// Show the hotline at work: real calls over loopback, every step printed.
    Demo(demo::Args),
    /// Be a caller: dial, speak recordings, press keys, record what is heard.
    Call(call::Args),
    /// Be a seat's phone: register, answer, speak, hang up.
    Seat(seat::Args),
    /// Check dialplans; exits 0 only when all may be published.
    Check(check::Args),
    /// Run the tests inside the dialplans.
    Test(test::Args),
    /// Show what SIP said in a call: a ladder, the messages, a capture.
    Trace(trace::Args),
    /// Recognise a recording.
    Transcribe(transcribe::Args),
    /// Show what a sentence means to the hotline.
    Understand(understand::Args),
    /// Speak a text to a WAV file.
    Speak(speak::Args),
    /// Check this machine: ports, models, disk, programs; `doctor line` checks the telephone line (检查线路).
    Doctor(doctor::Args),
    /// Find out how many calls this machine takes, with and without speech (本机能接多少路).
    Load(load::Args),
}

/// What every command is given.
struct Context {
    json: bool,
    config: Option<std::path::PathBuf>,
}

/// Runs the program with the arguments of the process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("ZONGJI_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A log whose reader is gone is lost, and nothing else.
    log.with_ansi(std::io::stderr().is_terminal()).log_internal_errors(false).init();
    let context = Context { json: cli.json, config: cli.config };
    let done = match cli.command {
        Command::Serve(args) => serve::run(&context, args),
        Command::Demo(args) => demo::run(&context, args),
        Command::Call(args) => call::run(&context, args),
        Command::Seat(args) => seat::run(&context, args),
        Command::Check(args) => check::run(&context, args),
        Command::Test(args) => test::run(&context, args),
        Command::Trace(args) => trace::run(&context, args),
        Command::Transcribe(args) => transcribe::run(&context, args),
        Command::Understand(args) => understand::run(&context, args),
        Command::Speak(args) => speak::run(&context, args),
        Command::Doctor(args) => doctor::run(&context, args),
        Command::Load(args) => load::run(&context, args),
    };
    match done {
        Ok(true) if out::complete() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            note!("{e:#}");
            ExitCode::FAILURE
        }
    }
}
