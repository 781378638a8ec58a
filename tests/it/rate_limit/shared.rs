//! Limits that instances share through a real Redis.

use std::time::{Duration, Instant};

use balafon::google::rpc::RetryInfo;
use balafon::interceptors::rate_limit::{RateLimit, RedisUrl, SharedLimits};
use balafon::testing::{call, intercept};
use balafon::{Outcome, Rpc, Status};

use crate::support::redis::Redis;
use crate::support::{PATIENCE, patiently};

static RPC: Rpc<(), ()> = Rpc::unary("/test.Echo/Unary");

/// One of the instances that share this Redis. All its calls come from one client.
async fn instance(redis: &Redis, calls: u32, period: Duration) -> RateLimit {
    let shared = SharedLimits::redis(redis.url().parse().unwrap(), PATIENCE).await;
    RateLimit::new().limit("*", calls, period).unwrap().share(shared)
}

async fn outcome(limit: &RateLimit) -> Status {
    intercept(limit, call(&RPC), |_| async { Outcome::ok() }).await.status
}

async fn passed(limit: &RateLimit, calls: usize) -> usize {
    let mut passed = 0;
    for _ in 0..calls {
        passed += usize::from(outcome(limit).await.is_ok());
    }
    passed
}

#[tokio::test]
async fn instances_share_one_limit() {
    let Some(redis) = Redis::start() else { return };
    let hour = Duration::from_secs(3600);
    let (one, other) = (instance(&redis, 500, hour).await, instance(&redis, 500, hour).await);
    let (one, other) = tokio::join!(passed(&one, 400), passed(&other, 400));
    assert_eq!(one + other, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_exceed_the_limit_by_two_percent_at_most() {
    let Some(redis) = Redis::start() else { return };
    let period = Duration::from_millis(500);
    let mut instances = Vec::new();
    let start = Instant::now();
    for _ in 0..2 {
        let limit = instance(&redis, 100, period).await;
        instances.push(tokio::spawn(async move {
            let mut passed = 0;
            while start.elapsed() < 6 * period {
                passed += u32::from(outcome(&limit).await.is_ok());
            }
            passed
        }));
    }
    let mut all = 0;
    for instance in instances {
        all += instance.await.unwrap();
    }
    let expected = 100.0 * start.elapsed().as_secs_f64() / period.as_secs_f64();
    let deviation = f64::from(all) / expected - 1.0;
    // A busy machine may call too rarely: then fewer calls pass, which is no fault of the limit.
    assert!((-0.2..0.02).contains(&deviation), "{all} calls passed, of {expected:.0}");
}

#[tokio::test]
async fn retry_delay_from_redis_is_right() {
    let Some(redis) = Redis::start() else { return };
    let limit = instance(&redis, 3, Duration::from_millis(200)).await;
    let mut refused = 0;
    while refused < 5 {
        if let Some(retry) = outcome(&limit).await.detail::<RetryInfo>() {
            refused += 1;
            tokio::time::sleep(retry.delay().unwrap()).await;
            assert!(outcome(&limit).await.is_ok());
        }
    }
}

#[tokio::test]
async fn redis_that_comes_later_is_used() {
    let Some(mut redis) = Redis::stopped() else { return };
    let hour = Duration::from_secs(3600);
    let shared = SharedLimits::redis(redis.url().parse().unwrap(), PATIENCE).await;
    assert!(!shared.is_there());
    redis.go_on();
    patiently(async {
        while !shared.is_there() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let one = RateLimit::new().limit("*", 5, hour).unwrap().share(shared);
    let other = instance(&redis, 5, hour).await;
    assert_eq!(passed(&one, 3).await + passed(&other, 9).await, 5);
}

#[tokio::test]
async fn redis_stopped_leaves_each_instance_its_own_limit() {
    let Some(mut redis) = Redis::start() else { return };
    let hour = Duration::from_secs(3600);
    let (one, other) = (instance(&redis, 5, hour).await, instance(&redis, 5, hour).await);
    assert_eq!(passed(&one, 9).await + passed(&other, 9).await, 5);
    redis.stop();
    assert_eq!(patiently(passed(&one, 9)).await, 5);
    assert_eq!(patiently(passed(&other, 9)).await, 5);
}

#[test]
fn invalid_redis_url_error_hides_the_password() {
    for url in ["", "localhost", "http://a:hunter2@b", "rediss://:hunter2@", "redis://:hunter2@"] {
        let error = url.parse::<RedisUrl>().unwrap_err().to_string();
        assert!(error.contains("wanted a URL such as redis://"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let redis: RedisUrl = "redis://a:hunter2@b:6379/0".parse().unwrap();
    assert_eq!(format!("{redis:?}"), "b:6379");
}
