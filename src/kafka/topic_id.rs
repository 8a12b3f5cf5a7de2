//! A topic's id: what tells a topic from another one of the same name.
//!
//! librdkafka knows it (DescribeTopics), rust-rdkafka has no safe wrapper; this is one, and nothing else.
#![allow(unsafe_code, reason = "rust-rdkafka wraps no DescribeTopics")]

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

const TIMEOUT_MS: i32 = 15_000;

/// Why the id cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TopicIdError {
    /// Kafka has no topic of that name.
    #[error("topic {0:?} does not exist")]
    Missing(String),
    /// Kafka refused or did not answer.
    #[error("describe topic {topic:?}: {code}")]
    Kafka {
        /// Which.
        topic: String,
        /// librdkafka's code.
        code: RDKafkaErrorCode,
    },
    /// The name holds a zero byte, or the answer does not hold the topic.
    #[error("describe topic {0:?}: no usable answer")]
    Unusable(String),
}

/// Asks one broker, any will do: the id of `topic` in Kafka's text form (22 characters of URL-safe base64). Blocks up to 15 s.
pub fn topic_id<C: ClientContext>(client: &Client<C>, broker: i32, topic: &str) -> Result<String, TopicIdError> {
    let unusable = || TopicIdError::Unusable(topic.to_owned());
    let name = CString::new(topic).map_err(|_| unusable())?;
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    // SAFETY: every pointer is created here, checked for null where librdkafka may return one, and destroyed once, in
    // reverse order; strings that librdkafka owns are copied before their event is destroyed.
    unsafe {
        let client = client.native_ptr();
        let queue = Owned(sys::rd_kafka_queue_new(client), sys::rd_kafka_queue_destroy);
        let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Owned(sys::rd_kafka_AdminOptions_new(client, op), sys::rd_kafka_AdminOptions_destroy);
        sys::rd_kafka_AdminOptions_set_request_timeout(options.0, TIMEOUT_MS, ptr::null_mut(), 0);
        sys::rd_kafka_AdminOptions_set_broker(options.0, broker, ptr::null_mut(), 0);
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned(topics, sys::rd_kafka_TopicCollection_destroy);
        sys::rd_kafka_DescribeTopics(client, topics.0, options.0, queue.0);
        let event = sys::rd_kafka_queue_poll(queue.0, TIMEOUT_MS + 1000);
        if event.is_null() {
            return Err(TopicIdError::Kafka { topic: topic.to_owned(), code: RDKafkaErrorCode::OperationTimedOut });
        }
        let event = Owned(event, sys::rd_kafka_event_destroy);
        check(topic, sys::rd_kafka_event_error(event.0).into())?;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err(unusable());
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if described.is_null() || count != 1 {
            return Err(unusable());
        }
        let error = sys::rd_kafka_TopicDescription_error(*described);
        if !error.is_null() {
            check(topic, sys::rd_kafka_error_code(error).into())?;
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(*described);
        if id.is_null() {
            return Err(unusable());
        }
        let text = sys::rd_kafka_Uuid_base64str(id);
        if text.is_null() {
            return Err(unusable());
        }
        // librdkafka writes the other alphabet of base64 than Kafka does.
        let text = CStr::from_ptr(text).to_str().map_err(|_| unusable())?;
        Ok(text.replace('+', "-").replace('/', "_"))
    }
}

fn check(topic: &str, code: RDKafkaErrorCode) -> Result<(), TopicIdError> {
    match code {
        RDKafkaErrorCode::NoError => Ok(()),
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            Err(TopicIdError::Missing(topic.to_owned()))
        }
        code => Err(TopicIdError::Kafka { topic: topic.to_owned(), code }),
    }
}

/// A pointer of librdkafka's with the function that destroys it.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from the matching constructor and is destroyed only here.
            unsafe { (self.1)(self.0) };
        }
    }
}
