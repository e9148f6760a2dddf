use redb::ReadableTable;

use super::{
    Generation, RevocationRow, SignerRow, Store, StoreError,
    generations::Touched,
    schema::{REVOCATIONS, SIGNERS, decode, encode},
    writer::Done,
};

/// Signers that came over the API, and revocations of credentials wherever they came from.
impl Store {
    /// Signers added over the API, with their revocations.
    pub fn signers(&self) -> Result<Vec<SignerRow>, StoreError> {
        self.inner.records.read(|transaction| {
            let revocations = transaction.open_table(REVOCATIONS)?;
            let mut signers = Vec::new();
            for row in transaction.open_table(SIGNERS)?.iter()? {
                let mut signer: SignerRow = decode("signers", row?.1.value())?;
                signer.revoked = revocations.get(signer.id.as_str())?.map(|at| parse(at.value())).transpose()?;
                signers.push(signer);
            }
            Ok(signers)
        })
    }

    /// Every revocation, also of what only a file holds: the id and since when.
    pub fn revocations(&self) -> Result<Vec<(String, RevocationRow)>, StoreError> {
        self.inner.records.read(|transaction| {
            let mut revocations = Vec::new();
            for row in transaction.open_table(REVOCATIONS)?.iter()? {
                let (id, at) = row?;
                revocations.push((id.value().to_owned(), parse(at.value())?));
            }
            Ok(revocations)
        })
    }

    /// Moves whenever a signer or a revocation was written.
    pub fn signers_generation(&self) -> Generation {
        self.generation_of(GENERATION)
    }

    /// Adds a signer, or replaces the one with that credential; a revocation of it stays.
    pub async fn put_signer(&self, row: SignerRow) -> Result<(), StoreError> {
        let value = encode("signers", &row)?;
        self.inner
            .records
            .write(value.len(), move |transaction| {
                transaction.open_table(SIGNERS)?.insert(row.id.as_str(), value.as_slice())?;
                Ok(Done::changed((), touched()))
            })
            .await
    }

    /// Revokes a credential for ever, whether or not it is known here; answers the strictest that was ever said.
    pub async fn revoke_signer(&self, id: String, revocation: RevocationRow) -> Result<RevocationRow, StoreError> {
        self.inner
            .records
            .write(0, move |transaction| {
                let mut revocations = transaction.open_table(REVOCATIONS)?;
                let known = revocations.get(id.as_str())?.map(|row| parse(row.value())).transpose()?;
                let strictest = known.map_or(revocation, |known| known.and(revocation));
                if known == Some(strictest) {
                    return Ok(Done::unchanged(strictest));
                }
                revocations.insert(id.as_str(), strictest.to_string().as_str())?;
                Ok(Done::changed(strictest, touched()))
            })
            .await
    }
}

fn touched() -> Touched {
    let mut touched = Touched::default();
    touched.add(GENERATION);
    touched
}

fn parse(row: &str) -> Result<RevocationRow, StoreError> {
    row.parse().map_err(|error| StoreError::row("revocations", error))
}

const GENERATION: &str = "signers";
