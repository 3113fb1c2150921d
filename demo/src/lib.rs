//! What make demo needs: fetching, configuration, driver and the report.
