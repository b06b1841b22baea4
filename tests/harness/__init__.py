"""What the tests outside of cargo share: brokers, raw protocol access, Apache's tools in one JVM."""
