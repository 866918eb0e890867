//! The certificate of SIP over TLS.

use super::finding::{Finding, words};
use crate::sip::certificate::{CertificateError, Chain};
use std::path::Path;

/// Fewer days than this are told.
const SOON_DAYS: i64 = 21;

/// Reads both files and judges them at `now` (seconds since 1970); `host` is the name callers use, if known.
pub fn probe(certificate: &Path, key: &Path, host: Option<&str>, now: i64) -> Vec<Finding> {
    let mut read = Vec::new();
    for file in [certificate, key] {
        match std::fs::read(file) {
            Ok(bytes) => read.push(bytes),
            Err(e) => {
                let name = file.display();
                return vec![Finding::error(
                    "tls-files",
                    words!("读不了 {name}:{e}", "{name} cannot be read: {e}"),
                    words!("TLS 起不来", "SIP over TLS does not start"),
                    words!(
                        "改正 [sip.tls] 里的路径,或让运行本程序的用户能读它",
                        "mend the path in [sip.tls], or let the user that runs this program read it"
                    ),
                )];
            }
        }
    }
    let name = certificate.display().to_string();
    match Chain::read(&read[0], &read[1]) {
        Ok(chain) => judge(&name, &chain, host, now),
        Err(why) => {
            let file = if matches!(why, CertificateError::NoKey(_)) { key.display().to_string() } else { name };
            vec![Finding::error(
                "tls-files",
                words!("{file} 不能用:{why}", "{file} is of no use: {why}"),
                words!("TLS 起不来", "SIP over TLS does not start"),
                words!("换成 PEM 格式的证书链和私钥", "put the chain and the private key there in PEM form"),
            )]
        }
    }
}

/// What a readable chain is worth.
fn judge(name: &str, chain: &Chain, host: Option<&str>, now: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    let Some(first) = chain.certificates.first() else { return found };
    found.push(days(name, first.days_left(now), now < first.not_before));
    let names = first.names.join(", ");
    found.push(match host {
        Some(host) if !first.covers(host) => Finding::error(
            "tls-names",
            words!("证书只给 {names},不含 {host}", "the certificate is for {names}, not for {host}"),
            words!("核对名字的电话和中继会拒绝连接", "phones and trunks that check names refuse to connect"),
            words!("申请包含 {host} 的证书", "get a certificate that names {host}"),
        ),
        _ if names.is_empty() => Finding::warn(
            "tls-names",
            words!("证书里没有主机名", "the certificate names no host"),
            words!("核对名字的电话和中继会拒绝连接", "phones and trunks that check names refuse to connect"),
            words!("申请写明主机名的证书", "get a certificate that names the host"),
        ),
        _ => Finding::ok("tls-names", words!("证书给 {names}", "the certificate is for {names}")),
    });
    found.push(match chain.key_fits {
        Some(false) => Finding::error(
            "tls-key",
            words!("私钥和证书不是一对", "the private key does not belong to the certificate"),
            words!("TLS 起不来", "SIP over TLS does not start"),
            words!(
                "检查 [sip.tls] 的 certificate 和 key 是否来自同一次申请",
                "check that certificate and key in [sip.tls] come from the same request"
            ),
        ),
        _ => Finding::ok("tls-key", words!("私钥和证书配对", "the private key belongs to the certificate")),
    });
    found.push(order(chain, first.is_self_signed()));
    found
}

fn days(name: &str, left: i64, early: bool) -> Finding {
    let renew = || words!("续期;替换文件后无须重启", "renew it; the new file is taken without a restart");
    if early {
        Finding::error(
            "tls-days",
            words!("{name} 还没有生效", "{name} does not hold yet"),
            words!("对方会拒绝连接", "the other side refuses to connect"),
            words!("检查本机时钟和证书的起始日期", "check this machine's clock and the certificate's first day"),
        )
    } else if left < 0 {
        let gone = -left;
        Finding::error(
            "tls-days",
            words!("{name} 已过期 {gone} 天", "{name} ran out {gone} days ago"),
            words!("电话、浏览器和中继拒绝连接", "phones, browsers and trunks refuse to connect"),
            renew(),
        )
    } else if left < SOON_DAYS {
        Finding::warn(
            "tls-days",
            words!("{name} 还有 {left} 天到期", "{name} runs out in {left} days"),
            words!("到期后电话、浏览器和中继会拒绝连接", "after that phones, browsers and trunks refuse to connect"),
            renew(),
        )
    } else {
        Finding::ok("tls-days", words!("{name} 还有 {left} 天到期", "{name} holds for {left} more days"))
    }
}

fn order(chain: &Chain, self_signed: bool) -> Finding {
    let count = chain.certificates.len();
    if let Some(n) = chain.out_of_order() {
        return Finding::error(
            "tls-chain",
            words!("证书链第 {n} 张不是前一张的签发者", "certificate {n} of the chain did not sign the one before it"),
            words!("严格的对端建立不了 TLS", "strict peers cannot set TLS up"),
            words!("按 服务器证书、中间证书 的顺序重写文件", "write the file in order: server, then intermediates"),
        );
    }
    if self_signed {
        return Finding::warn(
            "tls-chain",
            words!("证书是自签的", "the certificate is self-signed"),
            words!(
                "只有事先信任它的电话才会连接;浏览器和运营商不会",
                "only phones that were told to trust it connect; browsers and carriers do not"
            ),
            words!("给外面用时换成公认机构签发的证书", "for others use a certificate of a public authority"),
        );
    }
    if count == 1 {
        return Finding::warn(
            "tls-chain",
            words!(
                "文件里只有服务器证书,没有中间证书",
                "the file holds the server's certificate only, no intermediate"
            ),
            words!(
                "没有缓存中间证书的电话会拒绝连接",
                "phones that have not met the intermediate before refuse to connect"
            ),
            words!("用完整证书链(fullchain)", "use the full chain (fullchain)"),
        );
    }
    Finding::ok("tls-chain", words!("证书链 {count} 张,顺序正确", "{count} certificates in the right order"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Level, level_of};
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn files(until: i32) -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["pbx.example.com".into()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 31));
        let (c, k) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        std::fs::write(&c, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&k, key.serialize_pem()).unwrap();
        (folder, c, k)
    }

    fn day(y: i32, m: u8, d: u8) -> i64 {
        date_time_ymd(y, m, d).unix_timestamp()
    }

    #[test]
    fn days_are_counted_and_names_compared() {
        let (_folder, c, k) = files(2030);
        let found = probe(&c, &k, Some("pbx.example.com"), day(2029, 6, 1));
        assert_eq!((level_of(&found, "tls-days"), level_of(&found, "tls-names")), (Level::Ok, Level::Ok));
        assert_eq!(level_of(&found, "tls-chain"), Level::Warn, "self-signed");
        assert_eq!(level_of(&probe(&c, &k, None, day(2030, 1, 20)), "tls-days"), Level::Warn);
        assert_eq!(level_of(&probe(&c, &k, None, day(2030, 3, 1)), "tls-days"), Level::Error);
        assert_eq!(level_of(&probe(&c, &k, None, day(2019, 3, 1)), "tls-days"), Level::Error);
        assert_eq!(level_of(&probe(&c, &k, Some("x.example"), day(2029, 6, 1)), "tls-names"), Level::Error);
    }

    #[test]
    fn a_missing_file_and_a_strange_key_are_named() {
        let ((_one, c, _), (_two, _, k)) = (files(2030), files(2030));
        assert_eq!(level_of(&probe(&c, &k, None, day(2029, 1, 1)), "tls-key"), Level::Error);
        let missing = probe(Path::new("/nowhere/c.pem"), &k, None, 0);
        assert!(missing[0].level == Level::Error && missing[0].seen.zh.contains("/nowhere/c.pem"));
        std::fs::write(&k, "no key").unwrap();
        assert_eq!(level_of(&probe(&c, &k, None, 0), "tls-files"), Level::Error);
    }
}
