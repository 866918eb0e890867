//! An RTP packet as a view of its bytes (RFC 3550, 5.1): nothing is copied, everything is checked.

/// Bytes of the fixed header.
pub const HEADER: usize = 12;

/// Why a datagram is no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than its headers say.
    #[error("the datagram is shorter than its RTP headers say")]
    Short,
    /// Not version 2.
    #[error("not RTP version 2")]
    Version,
    /// The padding count is 0 or longer than the payload.
    #[error("the padding is longer than the payload")]
    Padding,
    /// Second byte 192..=223: RTCP on the RTP port (RFC 5761, 4).
    #[error("an RTCP packet where RTP was expected")]
    Rtcp,
}

/// Where the payload begins, after sources and extension; at most the datagram's end.
pub(super) fn payload_start(datagram: &[u8]) -> Result<usize, RtpError> {
    if datagram.len() < HEADER {
        return Err(RtpError::Short);
    }
    if datagram[0] >> 6 != 2 {
        return Err(RtpError::Version);
    }
    if is_rtcp(datagram) {
        return Err(RtpError::Rtcp);
    }
    let mut start = HEADER + 4 * usize::from(datagram[0] & 0x0F);
    if datagram[0] & 0x10 != 0 {
        let length = datagram.get(start + 2..start + 4).ok_or(RtpError::Short)?;
        start += 4 + 4 * usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
    if start > datagram.len() { Err(RtpError::Short) } else { Ok(start) }
}

/// Whether a datagram is RTCP by its packet type, which SRTCP leaves readable (RFC 5761, 4).
pub(super) fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

/// An RTP packet within a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpView<'a> {
    datagram: &'a [u8],
    payload: (usize, usize),
}

impl<'a> RtpView<'a> {
    /// Checks headers and padding.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtpError> {
        let start = payload_start(datagram)?;
        let mut end = datagram.len();
        if datagram[0] & 0x20 != 0 {
            let padding = usize::from(datagram[end - 1]);
            if padding == 0 || padding > end - start {
                return Err(RtpError::Padding);
            }
            end -= padding;
        }
        Ok(RtpView { datagram, payload: (start, end) })
    }

    /// The marker bit: a talkspurt or a key begins.
    pub fn marker(&self) -> bool {
        self.datagram[1] & 0x80 != 0
    }

    /// Payload type, 0..=127.
    pub fn payload_type(&self) -> u8 {
        self.datagram[1] & 0x7F
    }

    /// Sequence number.
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.datagram[2], self.datagram[3]])
    }

    /// Timestamp of the payload's first sample.
    pub fn timestamp(&self) -> u32 {
        self.word(4)
    }

    /// Synchronisation source: who made it.
    pub fn ssrc(&self) -> u32 {
        self.word(8)
    }

    /// Contributing sources, up to 15.
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + '_ {
        (0..usize::from(self.datagram[0] & 0x0F)).map(|i| self.word(HEADER + 4 * i))
    }

    /// The payload, without padding.
    pub fn payload(&self) -> &'a [u8] {
        &self.datagram[self.payload.0..self.payload.1]
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.datagram[at], self.datagram[at + 1], self.datagram[at + 2], self.datagram[at + 3]])
    }
}

/// What stands in the header of a packet of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// A talkspurt or a key begins.
    pub marker: bool,
    /// 0..=127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp of the first sample.
    pub timestamp: u32,
    /// Our source.
    pub ssrc: u32,
}

impl Header {
    /// Clears `out` and writes the 12 bytes; the payload is appended by the caller.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[0x80, (u8::from(self.marker) << 7) | (self.payload_type & 0x7F)]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use webrtc_util::marshal::{Marshal, Unmarshal};

    #[test]
    fn what_we_write_the_rtp_crate_reads() {
        let mut out = vec![9; 99];
        let header =
            Header { marker: true, payload_type: 8, sequence: 65535, timestamp: 0xFFFF_FF60, ssrc: 0xDEAD_BEEF };
        header.write(&mut out);
        out.extend_from_slice(&[0xD5; 160]);
        let theirs = rtp::packet::Packet::unmarshal(&mut Bytes::from(out)).unwrap();
        assert!(theirs.header.marker && theirs.header.payload_type == 8 && theirs.header.sequence_number == 65535);
        assert_eq!((theirs.header.timestamp, theirs.header.ssrc), (0xFFFF_FF60, 0xDEAD_BEEF));
        assert_eq!(&theirs.payload[..], &[0xD5; 160]);
    }

    #[test]
    fn broken_datagrams_are_named() {
        let good = [0x80, 8, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 7];
        assert!(RtpView::parse(&good).is_ok());
        assert_eq!(RtpView::parse(&good[..11]), Err(RtpError::Short));
        assert_eq!(RtpView::parse(&[0x40; 13]), Err(RtpError::Version));
        let with = |first: u8| {
            let mut bytes = good;
            bytes[0] = first;
            RtpView::parse(&bytes).err()
        };
        assert_eq!(with(0x8F), Some(RtpError::Short), "15 sources that are not there");
        assert_eq!(with(0x90), Some(RtpError::Short), "an extension that is not there");
        assert_eq!(with(0xA0), Some(RtpError::Padding), "more padding than payload");
        assert_eq!(RtpView::parse(&[0x80, 200, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]), Err(RtpError::Rtcp));
    }

    proptest! {
        #[test]
        fn no_datagram_makes_the_view_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(view) = RtpView::parse(&bytes) {
                let _ = (view.payload().len(), view.csrcs().count(), view.marker());
            }
        }

        #[test]
        fn the_view_agrees_with_the_rtp_crate(
            marker: bool, payload_type in 0u8..64, sequence: u16, timestamp: u32, ssrc: u32,
            csrc in proptest::collection::vec(any::<u32>(), 0..16),
            payload in proptest::collection::vec(any::<u8>(), 1..200),
            extension in proptest::option::of(1usize..5), padding in 0u8..20,
        ) {
            let mut packet = rtp::packet::Packet {
                header: rtp::header::Header {
                    version: 2, marker, payload_type, sequence_number: sequence, timestamp, ssrc,
                    csrc: csrc.clone(), ..Default::default()
                },
                payload: Bytes::from(payload.clone()),
            };
            if let Some(words) = extension {
                packet.header.extension = true;
                packet.header.extension_profile = 0x1234;
                packet.header.extensions =
                    vec![rtp::header::Extension { id: 0, payload: Bytes::from(vec![5; words * 4]) }];
            }
            let mut bytes = packet.marshal().unwrap().to_vec();
            if padding > 0 {
                bytes[0] |= 0x20;
                bytes.extend(std::iter::repeat_n(0, usize::from(padding) - 1));
                bytes.push(padding);
            }
            let view = RtpView::parse(&bytes).unwrap();
            prop_assert_eq!(view.payload(), &payload[..]);
            prop_assert_eq!((view.marker(), view.payload_type()), (marker, payload_type));
            prop_assert_eq!((view.sequence(), view.timestamp(), view.ssrc()), (sequence, timestamp, ssrc));
            prop_assert_eq!(view.csrcs().collect::<Vec<_>>(), csrc);
        }
    }
}
