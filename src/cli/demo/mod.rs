//! `zongji demo`: the hotline at work. Four callers dial in over real SIP and RTP on loopback; everything that happens
//! is printed as it happens; the database is shown at the end.

mod cast;
mod show;
mod verdict;

use super::{Context, setup};
use crate::call::CallRecord;
use crate::server::Notice;
use crate::server::bus::News;
use crate::server::phone::{Phone, PhoneSettings};
use crate::sip::Credential;
use cast::{Part, SEAT_PASSWORD, SEAT_USER};
use show::{Line, Printer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

#[derive(clap::Args)]
pub struct Args {
    /// Leave the hotline up after the calls.
    #[arg(long)]
    keep: bool,
    /// SIP address (UDP and TCP).
    #[arg(long, value_name = "ADDR:PORT")]
    sip: Option<SocketAddr>,
    /// Data folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the callers' recordings.
    #[arg(long, default_value = "audio-fixtures", value_name = "DIR")]
    fixtures: PathBuf,
}

/// Longest a demo may take.
const LIMIT: Duration = Duration::from_secs(120);

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    setup::runtime()?.block_on(demo(context, args))
}

async fn demo(context: &Context, args: Args) -> anyhow::Result<bool> {
    let parts = cast::parts(&args.fixtures)?;
    let (lines, printed) = mpsc::channel::<Line>(1024);
    let printer = tokio::spawn(Printer::new(context.json).run(printed));
    say(&lines, "装载模型与流程 / loading models and dialplans …").await;
    let mut config = setup::config(context)?;
    cast::open_the_seat(&mut config);
    let over = setup::Overrides { sip: args.sip, http: None, data: args.data };
    let Some(started) = setup::start(context, &over, config).await? else { return Ok(false) };
    let hotline = started.hotline;
    hotline.store().reset_demo(crate::server::time::utc()).await?;
    let sip = setup::reachable(hotline.sip_address());
    say(
        &lines,
        format!("热线已就绪 / the hotline answers on {} with {}", sip, super::serve::engine_names(&hotline).join(", ")),
    )
    .await;
    for problem in &hotline.problems {
        say(&lines, format!("注意 / note: {problem}")).await;
    }
    let watch =
        tokio::spawn(watch(hotline.bus().subscribe(), parts.iter().map(Part::casting).collect(), lines.clone()));
    let done = tokio::time::timeout(LIMIT, perform(sip, parts, &lines)).await;
    if done.is_err() {
        say(&lines, "演示超时 / the demo took too long").await;
    }
    let endings = match tokio::time::timeout(Duration::from_secs(5), watch).await {
        Ok(endings) => endings?,
        Err(_) => Vec::new(),
    };
    if let Err(left) = hotline.flush(Duration::from_secs(5)).await {
        say(&lines, format!("{left} 条记录未及时落盘 / records were not written in time")).await;
    }
    let ok = verdict::print(context.json, &hotline, &started.data, &endings, &lines).await?;
    if args.keep {
        say(&lines, format!("热线保持运行 / the hotline stays up on {sip}; Ctrl-C ends it")).await;
        setup::wait_for_end(|| {}).await?;
    }
    hotline.shutdown().await;
    drop(lines);
    printer.await?;
    Ok(ok && done.is_ok_and(|d| d.is_ok()))
}

async fn say(lines: &mpsc::Sender<Line>, text: impl Into<String>) {
    let _printer_is_gone = lines.send(Line::plain(text)).await;
}

/// Every caller dials, and the seat's phone answers.
async fn perform(sip: SocketAddr, parts: Vec<Part>, lines: &mpsc::Sender<Line>) -> anyhow::Result<()> {
    let mut phones = tokio::task::JoinSet::new();
    let seat_parts: Vec<_> = parts.iter().filter_map(|p| p.seat.clone()).collect();
    for script in seat_parts {
        let mut phone = Phone::start(PhoneSettings::new(([127, 0, 0, 1], 0).into(), SEAT_USER)).await?;
        let credential = Credential { user: SEAT_USER.into(), password: SEAT_PASSWORD.into(), realm: None };
        phone.agent().register(sip, &credential, 300).await?;
        say(lines, format!("座席 {SEAT_USER} 的话机已注册 / the seat's phone is registered")).await;
        let lines = lines.clone();
        phones.spawn(async move {
            let mut tell = |news| drop(lines.try_send(Line::seat(&news)));
            phone.answer(LIMIT, 700, script, &mut tell).await.map(drop)
        });
    }
    for (n, part) in parts.into_iter().enumerate() {
        let lines = lines.clone();
        phones.spawn(async move {
            tokio::time::sleep(Duration::from_millis(400 * n as u64)).await;
            let mut phone = Phone::start(PhoneSettings::new(([127, 0, 0, 1], 0).into(), part.from)).await?;
            let tag = part.tag;
            let _printer_is_gone = lines.send(Line::opens(tag, part.title)).await;
            let mut tell = |news| drop(lines.try_send(Line::caller(tag, &news)));
            phone.call(&format!("sip:400@{sip}"), part.script, &mut tell).await?;
            phone.agent().shutdown().await;
            Ok(())
        });
    }
    while let Some(done) = phones.join_next().await {
        done??;
    }
    Ok(())
}

/// A caller's part as the watcher knows it: tag, number, what must come out.
#[derive(Clone)]
struct Casting {
    tag: &'static str,
    from: &'static str,
    expect: cast::Expect,
}

/// How a caller's call ended.
struct Ending {
    casting: Casting,
    call: crate::ids::CallId,
    record: CallRecord,
}

/// Prints what the hotline tells of each call until all are over.
async fn watch(mut bus: broadcast::Receiver<Notice>, castings: Vec<Casting>, lines: mpsc::Sender<Line>) -> Vec<Ending> {
    let mut endings: Vec<Ending> = Vec::new();
    while endings.len() < castings.len() {
        let notice = match bus.recv().await {
            Ok(notice) => notice,
            Err(broadcast::error::RecvError::Lagged(_)) => continue,
            Err(broadcast::error::RecvError::Closed) => break,
        };
        let Some(casting) = castings.iter().find(|c| c.from == notice.from.expose()) else { continue };
        match notice.what {
            News::Event(event) => {
                if let Some(line) = Line::event(casting.tag, &event) {
                    let _printer_is_gone = lines.send(line).await;
                }
            }
            News::Finished(record) => {
                endings.push(Ending { casting: casting.clone(), call: notice.call, record: *record });
            }
        }
    }
    endings
}
