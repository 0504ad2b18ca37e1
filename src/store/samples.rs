//! How processes were, minute by minute: samples, heartbeats, and the figures of whole days.

use std::ops::Range;

use uuid::Uuid;

use super::{Store, StoreError};

row! {
    /// A row of `samples`.
    #[derive(Debug, Clone, Default, PartialEq)]
    #[expect(missing_docs, reason = "as in the table")]
    pub struct Sample {
        pub at: i64,
        pub instance: Uuid,
        pub seconds: f64,
        pub requests: i64,
        pub users: i64,
        pub sessions: i64,
        pub sessions_limit: i64,
        pub connections: i64,
        pub connections_limit: i64,
        pub pool_in_use: i64,
        pub pool_limit: i64,
        pub database_in_use: i64,
        pub database_limit: i64,
        pub memory: Option<i64>,
        pub memory_limit: Option<i64>,
        pub cpu: Option<f64>,
        pub cpu_limit: Option<f64>,
        pub descriptors: Option<i64>,
        pub descriptors_limit: Option<i64>,
        pub fairness: Option<f64>,
        pub answered: i64,
        pub recorded: i64,
        pub unwell: String,
    }
}

row! {
    /// What samples of a stretch of time say together.
    #[derive(Debug, Clone, Copy, Default, PartialEq)]
    pub struct SampleSums {
        /// The most accounts that were active at once.
        pub most_users: Option<i64>,
        /// Requests in flight to servers, of those that there was room for, on average.
        pub pool_utilization: Option<f64>,
        /// How fair the sharing was, on average.
        pub fairness: Option<f64>,
    }
}

row! {
    /// When something was not well.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Unwell {
        /// Seconds since 1970.
        pub at: i64,
        /// What, separated by commas.
        pub unwell: String,
    }
}

/// Most samples that are read at once: of a day at the usual interval, some six processes.
const MOST: i64 = 10_000;

impl Store {
    /// Adds a sample.
    pub async fn add_sample(&self, sample: &Sample) -> Result<(), StoreError> {
        let text = "INSERT INTO samples (at, instance, seconds, requests, users, sessions, sessions_limit, connections,
                connections_limit, pool_in_use, pool_limit,
                database_in_use, database_limit, memory, memory_limit, cpu, cpu_limit, descriptors, descriptors_limit, fairness,
                answered, recorded, unwell)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
            ON CONFLICT (at, instance) DO NOTHING";
        on!(alone self, db => {
            let query = sqlx::query(text).bind(sample.at).bind(sample.instance).bind(sample.seconds).bind(sample.requests);
            let query = query.bind(sample.users).bind(sample.sessions).bind(sample.sessions_limit);
            let query = query.bind(sample.connections).bind(sample.connections_limit);
            let query = query.bind(sample.pool_in_use).bind(sample.pool_limit).bind(sample.database_in_use);
            let query = query.bind(sample.database_limit).bind(sample.memory).bind(sample.memory_limit).bind(sample.cpu);
            let query = query.bind(sample.cpu_limit).bind(sample.descriptors).bind(sample.descriptors_limit);
            let query = query.bind(sample.fairness).bind(sample.answered).bind(sample.recorded).bind(&sample.unwell);
            query.execute(db).await?;
        });
        Ok(())
    }

    /// Samples of that time, seconds since 1970; the oldest first.
    pub async fn samples(&self, Range { start, end }: Range<i64>) -> Result<Vec<Sample>, StoreError> {
        let text = "SELECT * FROM samples WHERE at >= $1 AND at < $2 ORDER BY at, instance LIMIT $3";
        Ok(on!(read self, db => sqlx::query_as(text).bind(start).bind(end).bind(MOST).fetch_all(db).await?))
    }

    /// The same in steps of so many seconds: averages over all samples of each process and step, with the step's beginning.
    pub async fn sample_steps(&self, Range { start, end }: Range<i64>, step: i64) -> Result<Vec<Sample>, StoreError> {
        let text = "SELECT (at / $3) * $3 AS at, instance, SUM(seconds) AS seconds,
                CAST(SUM(requests) AS BIGINT) AS requests, CAST(MAX(users) AS BIGINT) AS users,
                CAST(AVG(sessions) AS BIGINT) AS sessions, MAX(sessions_limit) AS sessions_limit,
                CAST(AVG(connections) AS BIGINT) AS connections, MAX(connections_limit) AS connections_limit,
                CAST(AVG(pool_in_use) AS BIGINT) AS pool_in_use, CAST(AVG(pool_limit) AS BIGINT) AS pool_limit,
                CAST(AVG(database_in_use) AS BIGINT) AS database_in_use, MAX(database_limit) AS database_limit,
                CAST(AVG(memory) AS BIGINT) AS memory, MAX(memory_limit) AS memory_limit,
                AVG(cpu) AS cpu, MAX(cpu_limit) AS cpu_limit,
                CAST(AVG(descriptors) AS BIGINT) AS descriptors, MAX(descriptors_limit) AS descriptors_limit,
                AVG(fairness) AS fairness, MAX(answered) AS answered, MAX(recorded) AS recorded, '' AS unwell
            FROM samples WHERE at >= $1 AND at < $2 GROUP BY (at / $3) * $3, instance ORDER BY 1, 2 LIMIT $4";
        Ok(on!(read self, db => sqlx::query_as(text).bind(start).bind(end).bind(step).bind(MOST).fetch_all(db).await?))
    }

    /// What samples of that time say together.
    pub async fn sample_sums(&self, Range { start, end }: Range<i64>) -> Result<SampleSums, StoreError> {
        let text = "SELECT MAX(users) AS most_users,
                AVG(CASE WHEN pool_limit > 0 THEN CAST(pool_in_use AS DOUBLE PRECISION) / pool_limit END) AS pool_utilization,
                AVG(fairness) AS fairness
            FROM samples WHERE at >= $1 AND at < $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(start).bind(end).fetch_one(db).await?))
    }

    /// Operations that were answered in that time, and how many of them are in the trail: of each process what its last sample says, less
    /// what its last one before said.
    pub async fn answered(&self, Range { start, end }: Range<i64>) -> Result<(i64, i64), StoreError> {
        let text = "SELECT COALESCE(CAST(SUM(a.answered - COALESCE(b.answered, 0)) AS BIGINT), 0),
                COALESCE(CAST(SUM(a.recorded - COALESCE(b.recorded, 0)) AS BIGINT), 0)
            FROM (SELECT instance, MAX(answered) AS answered, MAX(recorded) AS recorded FROM samples
                WHERE at >= $1 AND at < $2 GROUP BY instance) a
            LEFT JOIN (SELECT instance, MAX(answered) AS answered, MAX(recorded) AS recorded FROM samples
                WHERE at >= $1 - 86400 AND at < $1 GROUP BY instance) b ON b.instance = a.instance";
        Ok(on!(read self, db => sqlx::query_as(text).bind(start).bind(end).fetch_one(db).await?))
    }

    /// When something was not well, the oldest first.
    pub async fn unwell(&self, Range { start, end }: Range<i64>) -> Result<Vec<Unwell>, StoreError> {
        let text = "SELECT at, unwell FROM samples WHERE at >= $1 AND at < $2 AND unwell <> '' ORDER BY at LIMIT $3";
        Ok(on!(read self, db => sqlx::query_as(text).bind(start).bind(end).bind(MOST).fetch_all(db).await?))
    }

    /// A process is there to serve in that minute since 1970.
    pub async fn beat(&self, minute: i64) -> Result<(), StoreError> {
        let text = "INSERT INTO heartbeats (minute) VALUES ($1) ON CONFLICT (minute) DO NOTHING";
        on!(alone self, db => { sqlx::query(text).bind(minute).execute(db).await?; });
        Ok(())
    }

    /// The first minute that is known.
    pub async fn first_beat(&self) -> Result<Option<i64>, StoreError> {
        let text = "SELECT MIN(minute) FROM heartbeats";
        Ok(on!(read self, db => sqlx::query_scalar(text).fetch_one(db).await?))
    }

    /// The minutes of that time in which a process was there, in order; at most those of a week.
    pub async fn beats(&self, Range { start, end }: Range<i64>) -> Result<Vec<i64>, StoreError> {
        let text = "SELECT minute FROM heartbeats WHERE minute >= $1 AND minute < $2 ORDER BY minute LIMIT 10080";
        Ok(on!(read self, db => sqlx::query_scalar(text).bind(start).bind(end).fetch_all(db).await?))
    }

    /// Keeps what the figures of a day were; what was kept of it before is replaced.
    pub async fn keep_kpis(&self, day: i64, figures: &[(&str, f64)]) -> Result<(), StoreError> {
        let text = "INSERT INTO kpi_days (day, name, value) VALUES ($1, $2, $3)
            ON CONFLICT (day, name) DO UPDATE SET value = excluded.value";
        on!(brief self, tx => {
            for (name, value) in figures {
                sqlx::query(text).bind(day).bind(*name).bind(*value).execute(&mut *tx).await?;
            }
        });
        Ok(())
    }

    /// What the figures of days were, the oldest first.
    pub async fn kpis(&self, Range { start, end }: Range<i64>) -> Result<Vec<(i64, String, f64)>, StoreError> {
        let text = "SELECT day, name, value FROM kpi_days WHERE day >= $1 AND day < $2 ORDER BY day, name LIMIT $3";
        Ok(on!(read self, db => sqlx::query_as(text).bind(start).bind(end).bind(MOST).fetch_all(db).await?))
    }

    /// Removes samples and heartbeats from before that time and figures of days before that day: both in seconds since 1970. Says how many
    /// rows.
    pub async fn purge_samples(&self, before: i64, days_before: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        for (text, before) in [
            ("DELETE FROM samples WHERE at < $1", before),
            ("DELETE FROM heartbeats WHERE minute < $1", before / 60),
            ("DELETE FROM kpi_days WHERE day < $1", days_before / 86_400),
        ] {
            gone += on!(alone self, db => sqlx::query(text).bind(before).execute(db).await?.rows_affected());
        }
        Ok(gone)
    }
}
