const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A process that serves clients, as it describes itself to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What this life of the process was drawn as: a process that is started again is another one.
    pub incarnation: u128,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// The version of its program.
    pub version: String,
}

/// The id of the member called `name` of a cluster: the same after every start, never zero. (FNV-1a: ids are compared
/// with ids of earlier versions, so the function must never change.)
pub fn member_id(cluster_id: u64, name: &str) -> u64 {
    let bytes = cluster_id.to_be_bytes().into_iter().chain(name.bytes());
    bytes.fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_and_differs_between_members_and_clusters() {
        assert_eq!(member_id(7, "default"), 0xf309_b48a_d815_a4fd);
        assert_ne!(member_id(7, "default"), member_id(8, "default"));
        assert_ne!(member_id(7, "default"), member_id(7, "other"));
    }
}
