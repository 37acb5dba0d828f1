"""A side without a framework, so that the pipeline can be tested without one."""
