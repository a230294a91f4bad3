"""The service: a durable queue, workers that train, and an API that predicts.

Where is what. A module imports only what stands above it here; tests/test_contracts.py reads this list.

Everywhere
    settings            INKLING_* environment variables
    logs                what every process logs
    schemas             shapes of runs, progress and errors
    errors              the error tree
    database            SQLite or PostgreSQL, by a URL
    lifeline            a child process ends with its parent
    stop_signals        SIGTERM and SIGINT as something to wait for
    computing           threads for what never waits

Models
    model_schemas       shapes of models and aliases
    model_tables        their tables, as migrations/ makes them
    checkpoints         of runs that are under way, fenced by the number of the attempt
    aliases             default, candidate, and those that people give
    registry            publish, list, load, rename, delete
    comparisons         models side by side
    scorer              a process that scores an uploaded model
    uploads             models that come as a file

Runs
    run_queue           what both sides of the queue agree on
    scheduling          whose run is next, and when it may expect to start
    statuses            the queue's words in this service's
    feeds               one reader of a run's progress, however many watch
    devices             GPUs, and which of them a worker has
    heartbeats          which workers live, and on what
    readings            one reading for all who ask within a moment
    outlooks            what runs that wait may expect
    jobs                the API's side of the queue
    claims              the worker's side of the queue

Workers
    slots               a worker's place on its machine
    crashes             why a trainer died
    upkeep              signs of life, takeover, sweeping
    attempt             one attempt at a run, to its model
    trainer             the process that trains, run after run
    worker              the process that claims runs and supervises their trainers

Predictions
    metrics             Prometheus' counters and histograms
    batching            what arrives together runs together
    drawings            what is sent, before a network sees it
    predict_schemas     shapes of /predict
    request_bodies      from a request's body to drawings
    inference_schemas   shapes of /v2, the Open Inference Protocol
    tensors             its tensors as arrays
    warm_model          a model that needs no compilation any more
    candidates          how often the candidate agrees with the default
    predictor           the models that answer
    explanations        saliency and activations

API
    request_counts      every request in the metrics, by its route
    problems            every error as problem+json
    head_requests       HEAD as GET without a body
    heads               how large a request's head may be, and how long it may take
    bodies              how long requests' bodies may take, and how much memory
    dependencies        what routes ask for by type
    users               who asks, and who may
    routes              the REST contract, one module a resource
    main                the API process

Command line
    connection          a service over HTTP: requests and event streams
    client              a service from Python
    terminal            progress, tables and reports
    cli_base            what every command begins with
    cli_local           inkling train, in this process
    cli_remote          the commands that talk to a service
    supervisor          processes that are started again when they end
    backup              both SQLite files as they were at one moment
    cli                 inkling serve, api, worker, train, …
"""
