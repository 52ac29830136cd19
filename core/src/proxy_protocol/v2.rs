//! Reading version 2: the fixed part, the addresses, and the extensions (TLVs)
//! with their checksum.

use std::net::{IpAddr, SocketAddr};

use super::{
    Block, CRC32C, FIXED, Header, MAX_V2, Malformed, Read, SIGNATURE, Stop, V4_BLOCK, V6_BLOCK,
    literal, take,
};

/// Section 2.2. Of LOCAL, "discard the protocol block including the family".
pub(super) fn read(bytes: &[u8]) -> Read<Block> {
    let mut rest = bytes;
    literal(&mut rest, SIGNATURE, Malformed::NotProxy)?;
    let proxied = match take(&mut rest)? {
        [0x20] => false,
        [0x21] => true,
        [0x22..=0x2f] => return Err(Malformed::BadCommand.into()),
        _ => return Err(Malformed::BadVersion.into()),
    };
    let [family] = take(&mut rest)?;
    let addresses = if proxied { addresses_of(family)? } else { None };
    let [high] = take(&mut rest)?;
    if FIXED + usize::from(u16::from_be_bytes([high, 0])) > MAX_V2 {
        return Err(Malformed::TooLong.into());
    }
    let [low] = take(&mut rest)?;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(Malformed::TooLong.into());
    }
    let Some(addresses) = addresses else {
        return if bytes.len() < length {
            Err(Stop::Short)
        } else {
            Ok(Block::without_extensions(Header::Local, length))
        };
    };
    let extensions = FIXED + addresses;
    if length < extensions {
        return Err(Malformed::Truncated.into());
    }
    let whole = bytes.get(..length);
    check_extensions(whole.unwrap_or(bytes), extensions, length)?;
    let header = if addresses == V4_BLOCK {
        read_block::<4>(&mut rest)?
    } else {
        read_block::<16>(&mut rest)?
    };
    if whole.is_some() {
        Ok(Block {
            header,
            extensions,
            length,
        })
    } else {
        Err(Stop::Short)
    }
}

/// The length of the address block of a proxied connection, by the byte that has
/// the family in its upper half and the transport in its lower. `None` where both
/// block and extensions are skipped: of AF_UNSPEC, whose block has no length of
/// its own, the receiver "should ignore address information".
fn addresses_of(family: u8) -> Result<Option<usize>, Malformed> {
    match family {
        0x11 => Ok(Some(V4_BLOCK)),
        0x21 => Ok(Some(V6_BLOCK)),
        0x00..=0x02 => Ok(None),
        0x10 | 0x12 | 0x20 | 0x22 | 0x30..=0x32 => Err(Malformed::Unsupported),
        _ => Err(Malformed::BadFamily),
    }
}

fn read_block<const N: usize>(rest: &mut &[u8]) -> Read<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (from, to) = (take::<N>(rest)?, take::<N>(rest)?);
    let (from_port, to_port) = (take(rest)?, take(rest)?);
    Ok(Header::Proxied {
        client: SocketAddr::new(from.into(), u16::from_be_bytes(from_port)),
        destination: SocketAddr::new(to.into(), u16::from_be_bytes(to_port)),
    })
}

/// Walks the type-length-values that begin at `start`, in as much as there is of
/// a header of `length` bytes; verifies the checksum when all of it is there.
fn check_extensions(header: &[u8], start: usize, length: usize) -> Result<(), Malformed> {
    let mut at = start;
    let mut checksum = None;
    while at < length {
        let value = at + 3;
        let room = length.checked_sub(value).ok_or(Malformed::BadExtension)?;
        let Some(&[kind, high, low]) = header.get(at..).and_then(|rest| rest.first_chunk()) else {
            return Ok(());
        };
        let size = usize::from(u16::from_be_bytes([high, low]));
        let twice = kind == CRC32C && checksum.is_some();
        if size > room || (kind == CRC32C && size != 4) || twice {
            return Err(Malformed::BadExtension);
        }
        if kind == CRC32C {
            checksum = Some(value);
        }
        at = value + size;
    }
    match checksum {
        Some(value) if header.len() == length => verify(header, value),
        _ => Ok(()),
    }
}

/// Section 2.2.3: over the whole header, with the checksum itself as zeros.
fn verify(header: &[u8], at: usize) -> Result<(), Malformed> {
    let (before, rest) = header.split_at_checked(at).ok_or(Malformed::BadExtension)?;
    let (&stated, after) = rest
        .split_first_chunk::<4>()
        .ok_or(Malformed::BadExtension)?;
    let crc = [before, &[0; 4][..], after].into_iter().fold(!0, crc32c);
    if !crc == u32::from_be_bytes(stated) {
        Ok(())
    } else {
        Err(Malformed::BadChecksum)
    }
}

/// CRC-32C (Castagnoli), reflected, a byte at a time; RFC 9260 appendix A. Begin
/// with all ones and invert the end.
#[expect(
    clippy::indexing_slicing,
    reason = "a byte is an index into 256 entries"
)]
pub(super) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        CRC_TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
    })
}

static CRC_TABLE: [u32; 256] = crc_table();

#[expect(
    clippy::indexing_slicing,
    reason = "the loop ends at the array's length"
)]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0u32;
    while byte < 256 {
        let (mut crc, mut bit) = (byte, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}
