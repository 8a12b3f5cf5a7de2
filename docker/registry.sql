-- The registry keeps its schemas here, apart from what is captured.
CREATE DATABASE registry;
