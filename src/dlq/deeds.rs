//! What was done about dead letters, and by whom.

use sqlx::PgConnection;

use crate::failure::Failure;

/// Notes an action on letters, each with its note.
pub(super) async fn note(
    connection: &mut PgConnection,
    letters: &[i64],
    action: &'static str,
    who: &str,
    notes: &[String],
) -> Result<(), Failure> {
    if letters.is_empty() {
        return Ok(());
    }
    // what Postgres can't hold in a text is of no use to a reader
    let notes: Vec<String> = notes.iter().map(|note| note.replace('\0', "\u{2400}")).collect();
    sqlx::query(
        "INSERT INTO dlq_history (letter_id, action, who, note) \
         SELECT letter, $2, $3, note FROM unnest($1::bigint[], $4::text[]) AS noted (letter, note)",
    )
    .bind(letters)
    .bind(action)
    .bind(who)
    .bind(notes)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes what was replayed in a letter's place.
pub(super) async fn note_edited(
    connection: &mut PgConnection,
    letter: i64,
    who: &str,
    payload: &[u8],
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO dlq_history (letter_id, action, who, payload) VALUES ($1, 'edited', $2, $3)",
    )
    .bind(letter)
    .bind(who)
    .bind(payload)
    .execute(connection)
    .await?;
    Ok(())
}
