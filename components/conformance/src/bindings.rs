//! Bindings: what the block of bindings relies on.

use std::sync::Arc;
use std::time::Duration;

use pillion_contract::{BindingRequest, InputBinding, OutputBinding};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs the suite of output bindings.
pub async fn output(binding: Arc<dyn OutputBinding>) {
    let operations = binding.operations().to_vec();
    assert!(!operations.is_empty(), "an output binding has operations");
    let mut distinct = operations.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), operations.len(), "each operation is named once");
    let unknown = BindingRequest { operation: "no-such-operation".to_owned(), ..BindingRequest::default() };
    let error = binding.invoke(&unknown).await.expect_err("an operation that is not known is refused");
    assert!(error.to_string().contains("no-such-operation"), "the error names the operation: {error}");
    for _ in 0..2 {
        binding.close().await.expect("a binding closes, also when it is closed already");
    }
}

/// Runs the suite of input bindings. `fire` lets something happen at the source; it is called after each opening.
pub async fn input<F, Fut>(binding: Arc<dyn InputBinding>, fire: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = ()>,
{
    for round in 1..=2 {
        let mut deliveries = binding.read().await.expect("a source opens, also again after it was closed");
        fire().await;
        let delivery = tokio::time::timeout(LIMIT, deliveries.recv()).await;
        let delivery = delivery.expect("an event comes").expect("the source stays open");
        delivery.reply.answer(Ok(bytes::Bytes::from_static(b"done")));
        // Dropping the receiver ends the source.
        drop(deliveries);
        println!("round {round}");
    }
    let mut deliveries = binding.read().await.expect("a source opens");
    for _ in 0..2 {
        tokio::time::timeout(LIMIT, binding.close()).await.expect("a close ends").expect("a binding closes");
    }
    let rest = async { while deliveries.recv().await.is_some() {} };
    tokio::time::timeout(LIMIT, rest).await.expect("a closed binding gives no more events");
}
