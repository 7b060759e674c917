//! Names of interfaces.

use std::collections::HashSet;
use std::io;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use super::connection::{connect, to_io};
use crate::device::MAX_NAME_LEN;

/// The names of all interfaces in the network namespace of this thread.
///
/// # Errors
/// There is no netlink socket to be had, or no runtime here.
pub async fn interfaces() -> io::Result<Vec<String>> {
    // The connection ends with its handle, whether or not it was answered.
    let handle = connect()?;
    let links: Vec<LinkMessage> = to_io(handle.link().get().execute().try_collect().await)?;
    let name = |link: LinkMessage| {
        link.attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            })
    };
    Ok(links.into_iter().filter_map(name).collect())
}

/// The first of `prefix0`, `prefix1`, … that no interface has. Somebody may take it before it is
/// used.
///
/// # Errors
/// As [`interfaces`], and when no name is left that is short enough.
pub async fn next_free_name(prefix: &str) -> io::Result<String> {
    let taken = interfaces().await?.into_iter().collect();
    first_free(prefix, &taken).ok_or_else(|| {
        io::Error::other(format!(
            "no name of an interface is left that begins with {prefix:?}"
        ))
    })
}

fn first_free(prefix: &str, taken: &HashSet<String>) -> Option<String> {
    (0..=taken.len())
        .map(|number| format!("{prefix}{number}"))
        .take_while(|name| name.len() <= MAX_NAME_LEN)
        .find(|name| !taken.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gap_is_taken() {
        let taken = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let free = |prefix, names| first_free(prefix, &taken(names));
        assert_eq!(free("psq", &[]).unwrap(), "psq0");
        assert_eq!(free("psq", &["lo", "psq0", "psq1"]).unwrap(), "psq2");
        assert_eq!(free("psq", &["psq0", "psq2"]).unwrap(), "psq1");
        assert_eq!(free("fourteen-bytes", &[]).unwrap(), "fourteen-bytes0");
        assert_eq!(free("fifteen-bytes--", &[]), None);
        let ten: Vec<String> = (0..10).map(|n| format!("fourteen-bytes{n}")).collect();
        assert_eq!(
            first_free("fourteen-bytes", &ten.into_iter().collect()),
            None
        );
    }

    #[tokio::test]
    async fn the_loopback_interface_is_listed() {
        assert!(interfaces().await.unwrap().contains(&"lo".to_owned()));
    }
}
