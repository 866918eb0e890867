//! `zongji demo`: the hotline at work. Four callers dial in over real SIP and RTP on loopback; everything that happens
//! is printed as it happens; the database is shown at the end.

mod cast;
mod show;
mod verdict;

use super::{Context, setup};
use crate::call::CallRecord;
use crate::server::Notice;
use crate::server::bus::News;
use crate::server::phone::{Phone, PhoneSettings, Step};
use crate::sip::Credential;
use cast::{Part, SEAT_PASSWORD, SEAT_USER};
use show::{Line, Printer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

#[derive(clap::Args)]
pub struct Args {
    /// Leave the hotline up after the calls.
    #[arg(long)]
    keep: bool,
    /// SIP address (UDP and TCP). The demo's seat has a password that everybody knows: keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:5060", value_name = "ADDR:PORT")]
    sip: SocketAddr,
    /// Data folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder of the callers' recordings.
    #[arg(long, default_value = "audio-fixtures", value_name = "DIR")]
    fixtures: PathBuf,
}

/// Where the demo's phones are.
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Longest a demo may take.
const LIMIT: Duration = Duration::from_secs(120);

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    setup::runtime()?.block_on(demo(context, args))
}

async fn demo(context: &Context, args: Args) -> anyhow::Result<bool> {
    let parts = cast::parts(&args.fixtures)?;
    let castings: Vec<Casting> = parts.iter().map(Part::casting).collect();
    let (lines, printed) = mpsc::channel::<Line>(1024);
    let printer = tokio::spawn(Printer::new(context.json).run(printed));
    say(&lines, "装载模型与流程 / loading models and dialplans …").await;
    let Some(started) = open(context, &args).await? else { return Ok(false) };
    let hotline = started.hotline;
    hotline.store().reset_demo(crate::server::time::utc()).await?;
    let sip = setup::reachable(hotline.sip_address());
    let engines = super::serve::engine_names(&hotline).join(", ");
    say(&lines, format!("热线已就绪 / the hotline answers on {sip} with {engines}")).await;
    for problem in &hotline.problems {
        say(&lines, format!("注意 / note: {problem}")).await;
    }
    let (over, is_over) = oneshot::channel();
    let watching = watch(hotline.bus().subscribe(), castings.clone(), lines.clone(), is_over);
    let watching = tokio::spawn(watching);
    let played = match tokio::time::timeout(LIMIT, perform(sip, parts, &lines)).await {
        Ok(played) => played,
        Err(_) => Err(anyhow::anyhow!("演示超时 / the demo took longer than {} s", LIMIT.as_secs())),
    };
    if let Err(why) = &played {
        say(&lines, format!("✗ {why:#}")).await;
    }
    let _watcher_has_seen_all_ends = over.send(());
    let endings = watching.await?;
    if let Err(left) = hotline.flush(Duration::from_secs(5)).await {
        say(&lines, format!("{left} 条记录未及时落盘 / records were not written in time")).await;
    }
    let ok = verdict::print(&hotline, &started.data, &castings, &endings, played.is_ok(), &lines).await?;
    if args.keep {
        keep(sip, &lines).await?;
    }
    hotline.shutdown().await;
    drop(lines);
    printer.await?;
    Ok(ok)
}

/// The hotline of the demo: built-in defaults unless a configuration is named, so that it never touches another
/// hotline's data.
async fn open(context: &Context, args: &Args) -> anyhow::Result<Option<setup::Started>> {
    let mut config = match context.config {
        Some(_) => setup::config(context)?,
        None => crate::config::Config::default(),
    };
    cast::open_the_seat(&mut config);
    let over = setup::Overrides { sip: Some(args.sip), http: None, data: args.data.clone() };
    setup::start(context, &over, config).await
}

/// Stays until Ctrl-C, with a seat that answers whoever asks for a person.
async fn keep(sip: SocketAddr, lines: &mpsc::Sender<Line>) -> anyhow::Result<()> {
    let mut phone = seat_phone(sip).await?;
    let seat = tokio::spawn({
        let lines = lines.clone();
        async move {
            let mut tell = |news| drop(lines.try_send(Line::seat(&news)));
            while phone.answer(Duration::from_secs(3600), 700, Vec::new(), &mut tell).await.is_ok() {}
        }
    });
    say(lines, format!("热线保持运行 / the hotline stays up on {sip}: call sip:400@{sip}; Ctrl-C ends it")).await;
    setup::wait_for_end(|| {}).await?;
    seat.abort();
    Ok(())
}

async fn say(lines: &mpsc::Sender<Line>, text: impl Into<String>) {
    let _printer_is_gone = lines.send(Line::plain(text)).await;
}

/// Every caller dials, and the seat's phone answers.
async fn perform(sip: SocketAddr, parts: Vec<Part>, lines: &mpsc::Sender<Line>) -> anyhow::Result<()> {
    let (mut callers, mut seats) = (JoinSet::new(), JoinSet::new());
    for script in parts.iter().filter_map(|p| p.seat.clone()) {
        let phone = seat_phone(sip).await?;
        say(lines, format!("座席 {SEAT_USER} 的话机已注册 / the seat's phone is registered")).await;
        seats.spawn(seat(phone, sip, script, lines.clone()));
    }
    for (n, part) in parts.into_iter().enumerate() {
        callers.spawn(caller(Duration::from_millis(400 * n as u64), sip, part, lines.clone()));
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    // All callers are gone: a seat that was not called need not wait any longer.
    let hung_up = async {
        while let Some(done) = seats.join_next().await {
            done??;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(Duration::from_secs(4), hung_up).await {
        Ok(done) => done,
        Err(_) => anyhow::bail!("座席没有接到电话 / the seat's phone was not called, or not released"),
    }
}

async fn caller(wait: Duration, sip: SocketAddr, part: Part, lines: mpsc::Sender<Line>) -> anyhow::Result<()> {
    tokio::time::sleep(wait).await;
    let mut phone = Phone::start(PhoneSettings::new(LOCAL, part.from)).await?;
    let tag = part.tag;
    let _printer_is_gone = lines.send(Line::opens(tag, part.title)).await;
    let mut tell = |news| drop(lines.try_send(Line::caller(tag, &news)));
    phone.call(&format!("sip:400@{sip}"), part.script, &mut tell).await?;
    phone.agent().shutdown().await;
    Ok(())
}

/// A registered phone of the demo's seat.
async fn seat_phone(sip: SocketAddr) -> anyhow::Result<Phone> {
    let phone = Phone::start(PhoneSettings::new(LOCAL, SEAT_USER)).await?;
    phone.agent().register(sip, &seat_credential(), 300).await?;
    Ok(phone)
}

fn seat_credential() -> Credential {
    Credential { user: SEAT_USER.into(), password: SEAT_PASSWORD.into(), realm: None }
}

/// Answers one call, then takes its registration back, so that nobody rings a phone that is gone.
async fn seat(mut phone: Phone, sip: SocketAddr, script: Vec<Step>, lines: mpsc::Sender<Line>) -> anyhow::Result<()> {
    let mut tell = |news| drop(lines.try_send(Line::seat(&news)));
    phone.answer(LIMIT, 700, script, &mut tell).await?;
    phone.agent().register(sip, &seat_credential(), 0).await?;
    phone.agent().shutdown().await;
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

/// Prints what the hotline tells of each call until all are over, or a while after the phones have gone.
async fn watch(
    mut bus: broadcast::Receiver<Notice>,
    castings: Vec<Casting>,
    lines: mpsc::Sender<Line>,
    phones_are_gone: oneshot::Receiver<()>,
) -> Vec<Ending> {
    let mut endings: Vec<Ending> = Vec::new();
    let mut limit = std::pin::pin!(async {
        let _either_way_they_are_gone = phones_are_gone.await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    while endings.len() < castings.len() {
        let notice = tokio::select! {
            notice = bus.recv() => notice,
            () = &mut limit => break,
        };
        let notice = match notice {
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
