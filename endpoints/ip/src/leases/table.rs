//! The table in the file: how entries are read and written.

use std::io;
use std::path::Path;

use ipnetwork::IpNetwork;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::LeaseFileError;
use super::queue::{Change, Changes};
use crate::pool::ClientKey;

/// From a prefix to the key of its client, and when it was given back, in seconds since 1970. A
/// table of another shape gets another name.
const LEASES: TableDefinition<&str, (&str, Option<u64>)> = TableDefinition::new("leases-1");

/// An entry as it is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) network: IpNetwork,
    pub(super) client: ClientKey,
    /// In seconds since 1970; `None` if it was in use when the file was written last.
    pub(super) ended: Option<u64>,
}

/// Every entry in the file.
pub(super) fn read(database: &Database) -> Result<Vec<Stored>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(LEASES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let entries = table.iter()?.map(|entry| {
        let (network, value) = entry?;
        let text = network.value();
        let Ok(network) = text.parse() else {
            let found = format!("found {text:?}, expected a prefix");
            return Err(redb::Error::Corrupted(found));
        };
        let (client, ended) = value.value();
        let client = ClientKey::from_text(client);
        Ok(Stored {
            network,
            client,
            ended,
        })
    });
    entries.collect()
}

/// Makes all of `changes`, or none.
pub(super) fn write(database: &Database, changes: &Changes) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let mut table = transaction.open_table(LEASES)?;
    for (network, change) in changes {
        let network = network.to_string();
        match change {
            Change::Put { client, ended } => {
                table.insert(network.as_str(), (client.as_str(), *ended))?;
            }
            Change::Remove => {
                table.remove(network.as_str())?;
            }
        }
    }
    drop(table);
    transaction.commit()?;
    Ok(())
}

/// What a failure of the database means, for who reads the log.
pub(super) fn explain(error: redb::Error, path: &Path) -> LeaseFileError {
    use io::ErrorKind as Kind;
    let path = path.to_path_buf();
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            LeaseFileError::InUse { path }
        }
        // The other two are how the database says that this is not a file of its own, or not whole.
        redb::Error::Io(error)
            if !matches!(error.kind(), Kind::InvalidData | Kind::UnexpectedEof) =>
        {
            LeaseFileError::Access { path, error }
        }
        error => LeaseFileError::Damaged {
            path,
            reason: error.to_string(),
        },
    }
}
