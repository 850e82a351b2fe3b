//! The options of the methods that the host calls.

/// Defines the options of a method.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident { $($field:ident),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(
                /// The flag of this name.
                pub $field: bool,
            )*
        }
    )*};
}

options! {
    /// Of `basic.ack`.
    BasicAckOptions { multiple }
    /// Of `basic.nack`.
    BasicNackOptions { multiple, requeue }
    /// Of `basic.cancel`.
    BasicCancelOptions { nowait }
    /// Of `basic.consume`.
    BasicConsumeOptions { no_local, no_ack, exclusive, nowait }
    /// Of `basic.get`.
    BasicGetOptions { no_ack }
    /// Of `basic.publish`.
    BasicPublishOptions { mandatory, immediate }
    /// Of `basic.qos`.
    BasicQosOptions { global }
    /// Of `confirm.select`.
    ConfirmSelectOptions { nowait }
    /// Of `exchange.declare`.
    ExchangeDeclareOptions { passive, durable, auto_delete, internal, nowait }
    /// Of `exchange.delete`.
    ExchangeDeleteOptions { if_unused, nowait }
    /// Of `queue.bind`.
    QueueBindOptions { nowait }
    /// Of `queue.declare`.
    QueueDeclareOptions { passive, durable, exclusive, auto_delete, nowait }
    /// Of `queue.delete`.
    QueueDeleteOptions { if_unused, if_empty, nowait }
    /// Of `queue.purge`.
    QueuePurgeOptions { nowait }
}
