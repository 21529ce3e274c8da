//! PyMQ.
