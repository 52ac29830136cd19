//! Who is let in: the sets of networks agree with looking at each network, and a rate
//! lets in no more than its burst and what became due since, of each client.
#![no_main]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use arbitrary::Arbitrary;
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use tidegate_core::addr::ClientAddr;
use tidegate_core::admit::{Admission, Refusal};
use tidegate_core::rate::{Rate, RateTable};

#[derive(Arbitrary, Debug)]
struct Day {
    allow: Vec<(IpAddr, u8)>,
    deny: Vec<(IpAddr, u8)>,
    limit: Option<NonZeroU32>,
    clients: Vec<(IpAddr, u32)>,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    /// Client by a hash, and milliseconds since the one before.
    arrivals: Vec<(u8, u16)>,
}

fuzz_target!(|day: Day| {
    let nets = |written: &[(IpAddr, u8)]| -> Vec<IpNet> {
        let net = |(ip, length): &(IpAddr, u8)| IpNet::new(*ip, *length).ok();
        written.iter().filter_map(net).collect()
    };
    let (allow, deny) = (nets(&day.allow), nets(&day.deny));
    let admission = Admission::new(&allow, &deny, day.limit);
    for (ip, live) in &day.clients {
        let client = ClientAddr::new(SocketAddr::new(*ip, 1));
        // Mapped addresses and networks mean IPv4.
        let among = |nets: &[IpNet]| {
            nets.iter()
                .any(|net| canonical(*net).contains(&client.ip()))
        };
        match admission.admit(client) {
            Err(Refusal::Denied { .. }) => assert!(among(&deny)),
            Err(_) => assert!(!among(&deny) && !allow.is_empty() && !among(&allow)),
            Ok(()) => assert!(!among(&deny) && (allow.is_empty() || among(&allow))),
        }
        let within = day.limit.is_none_or(|limit| *live <= limit.get());
        assert_eq!(admission.within_limit(*live).is_ok(), within);
    }
    paced(&day);
});

fn canonical(net: IpNet) -> IpNet {
    tidegate_core::addr::canonical_net(net)
}

fn paced(day: &Day) {
    let rate = Rate {
        per_second: day.per_second,
        burst: day.burst,
    };
    // More room than clients: nobody is forgotten.
    let mut table = RateTable::new(rate, 4096);
    let mut admitted: HashMap<u64, Vec<Duration>> = HashMap::new();
    let mut now = Duration::ZERO;
    for (client, later) in &day.arrivals {
        now += Duration::from_millis((*later).into());
        let hash = u64::from(*client) << 56 | u64::from(*client);
        let before = admitted.entry(hash).or_default();
        match table.admit(hash, now) {
            Ok(()) => {
                before.push(now);
                // In any time that ends now: the burst, and what became due in it.
                for (index, since) in before.iter().enumerate() {
                    let came = (before.len() - index) as f64;
                    let due = (now - *since).as_secs_f64() * f64::from(rate.per_second.get());
                    let most = f64::from(rate.burst.get()) + due + 1e-6;
                    assert!(came <= most, "{came} over {most}: {rate:?} {before:?}");
                }
            }
            Err(wait) => {
                assert!(!before.is_empty() && wait > Duration::ZERO);
                // Said rightly: at that time, and not a moment before.
                let early = table
                    .clone()
                    .admit(hash, now + wait - Duration::from_nanos(1));
                assert!(early.is_err());
                assert_eq!(table.clone().admit(hash, now + wait), Ok(()));
            }
        }
    }
}
