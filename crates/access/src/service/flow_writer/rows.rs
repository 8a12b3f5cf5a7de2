//! The two statements, and the connection they are run on.

use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, Socket, Statement};
use uuid::Uuid;

use super::Queued;

/// What is there already was written by an attempt whose answer was lost.
const INSERT: &str = "
INSERT INTO flows (id, account_id, policy_id, client_id, gateway_id, resource_id, token_id, actor_group_membership_id,
                   client_remote_ip, client_user_agent, gateway_remote_ip, expires_at, inserted_at)
SELECT id::uuid, account::uuid, policy::uuid, client::uuid, gateway::uuid, resource::uuid, token::uuid,
       membership::uuid, client_ip::inet, user_agent, gateway_ip::inet,
       to_timestamp(expires_at) AT TIME ZONE 'UTC', to_timestamp(inserted_at) AT TIME ZONE 'UTC'
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::text[], $12::int8[], $13::int8[])
    AS flow (id, account, policy, client, gateway, resource, token, membership, client_ip, user_agent, gateway_ip,
             expires_at, inserted_at)
    ON CONFLICT (id) DO NOTHING";

const DELETE: &str = "DELETE FROM flows WHERE id = ANY ($1::text[]::uuid[])";

/// Where rows are written; connected while that goes well.
pub(super) struct Database<T> {
    config: Config,
    tls: T,
    connected: Option<Connected>,
}

struct Connected {
    client: Client,
    insert: Statement,
    delete: Statement,
}

/// The row itself is refused: it breaks a constraint, has a value that its column cannot hold, or a trigger will not have
/// it. Anything else is about all rows, and may pass.
pub(super) fn is_of_the_row(error: &Error) -> bool {
    let class = |code: &SqlState| ["22", "23", "44", "P0"].contains(&code.code().get(..2).unwrap_or_default());
    error.code().is_some_and(class)
}

impl<T> Database<T>
where
    T: MakeTlsConnect<Socket> + Clone,
    T::Stream: Send + 'static,
{
    pub(super) fn new(config: Config, tls: T) -> Self {
        Self { config, tls, connected: None }
    }

    /// The next use connects anew.
    pub(super) fn disconnect(&mut self) {
        self.connected = None;
    }

    /// Writes rows, all or none.
    pub(super) async fn insert(&mut self, rows: &[&Queued]) -> Result<(), Error> {
        let connected = self.connected().await?;
        let ids = |id: fn(&Queued) -> Uuid| rows.iter().map(|row| id(row).to_string()).collect::<Vec<_>>();
        let accounts: Vec<&str> = rows.iter().map(|row| &*row.flow.account_id).collect();
        let client_ips: Vec<Option<String>> =
            rows.iter().map(|row| row.flow.client_remote_ip.map(|ip| ip.to_string())).collect();
        let user_agents: Vec<&str> = rows.iter().map(|row| row.details.client_user_agent.as_str()).collect();
        let gateway_ips: Vec<String> = rows.iter().map(|row| row.details.gateway_remote_ip.to_string()).collect();
        let expiries: Vec<Option<i64>> = rows.iter().map(|row| row.flow.expires_at).collect();
        let inserted: Vec<i64> = rows.iter().map(|row| row.flow.inserted_at).collect();
        let (flows, policies, clients) =
            (ids(|row| row.flow.id), ids(|row| row.flow.policy_id), ids(|row| row.flow.client_id));
        let (gateways, resources, tokens) =
            (ids(|row| row.flow.gateway_id), ids(|row| row.flow.resource_id), ids(|row| row.flow.token_id));
        let memberships = ids(|row| row.flow.actor_group_membership_id);
        let values: [&(dyn ToSql + Sync); 13] = [
            &flows,
            &accounts,
            &policies,
            &clients,
            &gateways,
            &resources,
            &tokens,
            &memberships,
            &client_ips,
            &user_agents,
            &gateway_ips,
            &expiries,
            &inserted,
        ];
        connected.client.execute(&connected.insert, &values).await.map(|_| ())
    }

    /// Deletes rows; those that are not there are no error.
    pub(super) async fn delete(&mut self, flows: &[Uuid]) -> Result<(), Error> {
        let connected = self.connected().await?;
        let ids: Vec<String> = flows.iter().map(Uuid::to_string).collect();
        connected.client.execute(&connected.delete, &[&ids]).await.map(|_| ())
    }

    async fn connected(&mut self) -> Result<&Connected, Error> {
        let held = self.connected.take().filter(|held| !held.client.is_closed());
        let connected = match held {
            Some(held) => held,
            None => self.connect().await?,
        };
        Ok(self.connected.insert(connected))
    }

    async fn connect(&self) -> Result<Connected, Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        // It ends with the client; its errors come back from the statements.
        tokio::spawn(async move { drop(connection.await) });
        let insert = client.prepare(INSERT).await?;
        let delete = client.prepare(DELETE).await?;
        Ok(Connected { client, insert, delete })
    }
}

impl<T> std::fmt::Debug for Database<T> {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("connected", &self.connected.is_some()).finish_non_exhaustive()
    }
}
